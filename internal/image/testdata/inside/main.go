// Command inside reports what a process finds in its image.
package main

import (
	"crypto/x509"
	"fmt"
	"os"
	"os/exec"
	"os/user"
)

func main() {
	me, err := user.Current()
	fmt.Println("user", os.Getuid(), os.Getgid(), me.Username, err)
	pool, err := x509.SystemCertPool()
	if err != nil {
		fmt.Println("certificates", err)
		os.Exit(1)
	}
	fmt.Println("certificates", !pool.Equal(x509.NewCertPool()))
	fmt.Println("tmp", os.WriteFile("/tmp/x", []byte("x"), 0o600))
	fmt.Println("home", os.WriteFile("/home/nonroot/x", []byte("x"), 0o600))
	fmt.Println("root is closed", os.WriteFile("/x", nil, 0o600) != nil)
	fmt.Println("no shell", exec.Command("/bin/sh", "-c", "true").Run() != nil)
	fmt.Println("arguments", os.Args, os.Getenv("A"))
}
