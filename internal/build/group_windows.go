package build

import (
	"os"
	"os/exec"
)

func ownGroup(*exec.Cmd) {}

func interruptGroup(pid int) error {
	p, err := os.FindProcess(pid)
	if err != nil {
		return err
	}
	return p.Kill()
}

func killGroup(pid int) { _ = interruptGroup(pid) }

// alive cannot tell here, and errs on the side that removes nothing.
func alive(int) bool { return true }
