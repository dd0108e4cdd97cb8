// Command tiny is a web server made of system calls: it compiles for a foreign
// processor in seconds, because package net is not needed.
package main

import (
	"os"
	"strings"
	"syscall"
)

var version = "unset"

func main() {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	check(err)
	check(syscall.Bind(fd, &syscall.SockaddrInet4{Port: 8080}))
	check(syscall.Listen(fd, 16))
	buf := make([]byte, 4096)
	for {
		conn, _, err := syscall.Accept(fd)
		check(err)
		n, _ := syscall.Read(conn, buf)
		body := "tiny " + version + "\n"
		if strings.HasPrefix(string(buf[:n]), "GET /pid ") {
			body = "pid " + string(rune('0'+os.Getpid()%10)) + string(rune('0'+os.Getpid()/10%10)) + "\n"
		}
		syscall.Write(conn, []byte("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"+body))
		syscall.Close(conn)
	}
}

func check(err error) {
	if err != nil {
		os.Stderr.WriteString("tiny: " + err.Error() + "\n")
		os.Exit(1)
	}
}
