package main

import (
	"database/sql"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"breakglass/ca/api"
	"breakglass/internal/loopback"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"breakglass-ca": main})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			free, err := loopback.Addresses(1)
			if err != nil {
				return err
			}
			e.Vars = append(e.Vars, "LISTEN="+free[0])
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			// pins TOKENFILE OUT writes the pins that a token holds.
			"pins": func(ts *testscript.TestScript, _ bool, args []string) {
				tok, err := api.ParseToken(ts.ReadFile(args[0]))
				ts.Check(err)
				b, err := tok.Pins.Marshal()
				ts.Check(err)
				ts.Check(os.WriteFile(ts.MkAbs(args[1]), b, 0o600))
			},
			// checkpoint STATUS OUT writes the signed head that status --json shows.
			"checkpoint": func(ts *testscript.TestScript, _ bool, args []string) {
				var s statusJSON
				ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &s))
				ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(s.Checkpoint), 0o600))
			},
			// tamper DATABASE SQL changes a copy as somebody with the disk could.
			"tamper": func(ts *testscript.TestScript, _ bool, args []string) {
				db, err := sql.Open("sqlite3", ts.MkAbs(args[0]))
				ts.Check(err)
				defer db.Close()
				_, err = db.Exec(args[1])
				ts.Check(err)
			},
			// status N COMMAND... runs a command and demands its exit status; its output becomes stdout and stderr.
			"status": func(ts *testscript.TestScript, _ bool, args []string) {
				err := ts.Exec(args[1], args[2:]...)
				got := 0
				if x, ok := err.(*exec.ExitError); ok {
					got = x.ExitCode()
				} else {
					ts.Check(err)
				}
				if strconv.Itoa(got) != args[0] {
					ts.Fatalf("exit status %d, want %s", got, args[0])
				}
			},
			// served waits until the service answers.
			"served": func(ts *testscript.TestScript, _ bool, _ []string) {
				for range 100 {
					if c, err := net.Dial("tcp", ts.Getenv("LISTEN")); err == nil {
						c.Close()
						return
					}
					ts.Check(ts.Exec("sleep", "0.05"))
				}
				ts.Fatalf("the service does not answer on %s", ts.Getenv("LISTEN"))
			},
		},
	})
}

// TestContribIsTheDropIn keeps contrib's copy the one that host setup writes.
func TestContribIsTheDropIn(t *testing.T) {
	b, err := os.ReadFile("../../contrib/sshd/50-breakglass.conf")
	if err != nil {
		t.Fatal(err)
	}
	if string(b) != dropInText {
		t.Errorf("contrib/sshd/50-breakglass.conf is not what host setup writes")
	}
}
