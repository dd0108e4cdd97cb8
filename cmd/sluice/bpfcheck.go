package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"runtime"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/sluice-cd/sluice/bpf"
)

// checkReport is the result of sluice bpf check.
type checkReport struct {
	Object     string          `json:"object"`
	OK         bool            `json:"ok"`
	Problem    string          `json:"problem,omitempty"` // why it is no object at all
	Spec       *bpf.Spec       `json:"spec,omitempty"`
	Violations []bpf.Violation `json:"violations"`
	Load       loadReport      `json:"load"`
}

// loadReport is what this kernel says.
type loadReport struct {
	Tried   bool         `json:"tried"`
	Why     string       `json:"why,omitempty"` // it was not tried
	Kernel  string       `json:"kernel"`
	OK      bool         `json:"ok"`
	Program string       `json:"program,omitempty"` // the one that was refused
	Error   string       `json:"error,omitempty"`
	Refusal *bpf.Refusal `json:"refusal,omitempty"`
}

func bpfCheckCommand() *cobra.Command {
	var o options
	var rules string
	var noLoad bool
	cmd := &cobra.Command{
		Use: "check OBJECT", Short: "Check an object against the rules, and let the kernel's verifier try it", Args: cobra.ExactArgs(1),
		Long: `Check reads what an object would do, and compares it with the rules: types of
programs, where they are attached, helpers, maps and their memory, licence. As
root the object is then loaded and thrown away again, attached to nothing; if the
verifier refuses it, the telling lines of its log are shown, with the line of the
source and what usually helps. Exit status 1: it may not be loaded.`,
		Example: `  sluice bpf check probe.bpf.o
  sluice bpf check --rules my-rules.json probe.bpf.o     like policies/object.json
  sluice bpf check -o json probe.bpf.o | jq .violations`,
		RunE: func(cmd *cobra.Command, args []string) error {
			asJSON, err := o.json()
			if err != nil {
				return err
			}
			r := bpf.DefaultRules()
			if rules != "" {
				text, err := readFile("rules", rules, maxSmall)
				if err != nil {
					return err
				}
				if r, err = bpf.ParseRules(text); err != nil {
					return fmt.Errorf("%s: %w", rules, err)
				}
			}
			raw, err := readFile("eBPF object", args[0], maxObject+1) // one more: it is a finding
			if err != nil {
				return err
			}
			report, checkErr := check(args[0], raw, r, !noLoad)
			if asJSON {
				err = printJSON(cmd.OutOrStdout(), report)
			} else {
				report.print(cmd.OutOrStdout())
			}
			return errors.Join(err, checkErr)
		},
	}
	cmd.Flags().StringVar(&rules, "rules", "", "JSON file with rules of your own, in the place of the built-in ones")
	cmd.Flags().BoolVar(&noLoad, "no-load", false, "do not try the object on this kernel")
	o.addFormat(cmd)
	return cmd
}

// check looks at an object; the error says that it may not be loaded.
func check(name string, raw []byte, rules bpf.Rules, load bool) (checkReport, error) {
	report := checkReport{Object: name, Violations: []bpf.Violation{}, Load: loadReport{Kernel: kernelRelease(), Why: "not asked for"}}
	spec, err := bpf.ReadSpec(raw)
	if err != nil {
		report.Problem, report.Load.Why = err.Error(), "there is nothing to load"
		return report, &judged{error: fmt.Errorf("%s: %w", name, err), status: 1}
	}
	report.Spec = spec
	if v := spec.Check(rules); v != nil {
		report.Violations = v
	}
	var refused error
	if load {
		report.Load, refused = tryLoad(raw, spec, report.Violations)
	}
	report.OK = len(report.Violations) == 0 && refused == nil
	switch n := len(report.Violations); {
	case report.OK:
		return report, nil
	case n == 0:
		return report, &judged{error: fmt.Errorf("%s: %w", name, refused), status: 1, advice: report.Load.hint()}
	case refused == nil:
		return report, &judged{fmt.Errorf("%s breaks %s", name, plural(n, "rule")), 1, "rules of your own are read with --rules; policies/object.json has the built-in ones and their reasons"}
	default:
		return report, &judged{fmt.Errorf("%s breaks %s, and %w", name, plural(n, "rule"), refused), 1, report.Load.hint()}
	}
}

// tryLoad gives the object to the kernel and takes it back.
func tryLoad(raw []byte, spec *bpf.Spec, broken []bpf.Violation) (loadReport, error) {
	r := loadReport{Kernel: kernelRelease()}
	for _, v := range broken {
		if strings.HasPrefix(v.Rule, "size of all maps") {
			r.Why = "its maps would take too much memory"
			return r, nil
		}
	}
	if os.Geteuid() != 0 {
		r.Why = "needs root"
		return r, nil
	}
	coll, err := bpf.Open(raw, spec.Digest)
	if err != nil {
		return r, err
	}
	r.Tried = true
	loaded, err := bpf.Load(coll, ebpf.CollectionOptions{})
	if err == nil {
		loaded.Close()
		r.OK = true
		return r, nil
	}
	r.Error = err.Error()
	var refused *bpf.LoadError
	if errors.As(err, &refused) {
		if name := refusedProgram.FindStringSubmatch(refused.Err.Error()); name != nil {
			r.Program = name[1]
		}
		if what := refused.Refusal(); what.Complaint != "" {
			r.Refusal = &what
		}
	}
	return r, err
}

// refusedProgram finds the program in an error of cilium/ebpf.
var refusedProgram = regexp.MustCompile(`\bprogram (\w+): `)

func (r loadReport) hint() string {
	if r.Refusal != nil {
		return r.Refusal.Hint
	}
	return ""
}

func (c checkReport) print(w io.Writer) {
	if c.Spec == nil {
		fmt.Fprintf(w, "FAIL  format    %s\n", c.Problem)
		return
	}
	fmt.Fprintln(w, objectLine(c.Object, c.Spec))
	for _, p := range c.Spec.Programs {
		fmt.Fprintf(w, "      program   %s: %s, %s, %s\n", p.Name, p.Type, plural(p.Instructions, "instruction"), plural(len(p.Helpers), "helper"))
	}
	if len(c.Violations) == 0 {
		fmt.Fprintln(w, "ok    rules")
	}
	for _, v := range c.Violations {
		fmt.Fprintf(w, "FAIL  rules     %s is %s\n                allowed: %s\n                why: %s\n", v.Rule, v.Got, v.Want, v.Why)
	}
	switch l := c.Load; {
	case l.OK:
		fmt.Fprintf(w, "ok    verifier  Linux %s\n", l.Kernel)
	case !l.Tried:
		fmt.Fprintf(w, "–     verifier  not tried: %s\n", l.Why)
	case l.Refusal == nil:
		fmt.Fprintf(w, "FAIL  verifier  %s\n", l.Error)
	default:
		printRefusal(w, l.Program, *l.Refusal)
	}
}

// printRefusal shows a refusal; what the kernel did not say is left out.
func printRefusal(w io.Writer, program string, r bpf.Refusal) {
	fmt.Fprintf(w, "FAIL  verifier  %s\n", r.Complaint)
	for _, part := range [][2]string{{"program", program}, {"source", strings.TrimSpace(r.Where + " " + r.Source)}, {"at", r.Instruction}} {
		if part[1] != "" {
			fmt.Fprintf(w, "                %s: %s\n", part[0], part[1])
		}
	}
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// kernelRelease is what uname -r says.
func kernelRelease() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return runtime.GOOS
	}
	return unix.ByteSliceToString(u.Release[:])
}
