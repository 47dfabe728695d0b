package main

import (
	"slices"
	"strings"
	"testing"
)

func TestSSHsCommandLineIsReadAsSSHReadsIt(t *testing.T) {
	for _, c := range []struct {
		what, args                        string
		own, options, login, target, rest string
		bad                               bool
	}{
		{what: "a host alone", args: "web01", target: "web01"},
		{what: "a command", args: "root@web01 ls -l", target: "root@web01", rest: "ls -l"},
		{what: "a command behind --, which ssh takes off", args: "root@web01 -- ls -l", target: "root@web01", rest: "-- ls -l"},
		{what: "ssh's flags in one", args: "-vvt web01", options: "-vvt", target: "web01"},
		{what: "a flag with its value behind", args: "-p 22 web01", options: "-p 22", target: "web01"},
		{what: "a flag with its value attached", args: "-p22 web01", options: "-p 22", target: "web01"},
		{what: "flags and at the end one with a value", args: "-Nvo Compression=yes web01", options: "-Nv -o Compression=yes", target: "web01"},
		{what: "a value that looks like a flag", args: "-e -v web01", options: "-e -v", target: "web01"},
		{what: "the login by -l", args: "-l root web01 id", login: "root", target: "web01", rest: "id"},
		{what: "the login by -l, attached", args: "-tlroot web01", options: "-t", login: "root", target: "web01"},
		{what: "ours among them", args: "--reason x -v --minutes=5 web01 --reason y", own: "--reason x --minutes=5", options: "-v", target: "web01", rest: "--reason y"},
		{what: "ours without a value", args: "--show web01", own: "--show", target: "web01"},
		{what: "the end of flags before the host", args: "-v -- web01 ls", options: "-v", target: "web01", rest: "ls"},
		{what: "nothing", args: ""},
		{what: "a value that is missing", args: "-p", bad: true},
		{what: "ours with its value missing", args: "--reason", bad: true},
		{what: "a jump of the person's own", args: "-J bastion web01", bad: true},
		{what: "a raw forward", args: "-W a:1 web01", options: "-W a:1", target: "web01"},
		{what: "a master of the person's own", args: "-S /tmp/m web01", bad: true},
		{what: "an unknown flag", args: "-z web01", bad: true},
	} {
		s, err := splitSSH(strings.Fields(c.args))
		if (err != nil) != c.bad {
			t.Errorf("%s: %v", c.what, err)
			continue
		}
		if c.bad {
			continue
		}
		for _, x := range []struct {
			what      string
			got, want []string
		}{{"ours", s.own, strings.Fields(c.own)}, {"ssh's", s.options, strings.Fields(c.options)}, {"rest", s.rest, strings.Fields(c.rest)},
			{"login", strings.Fields(s.login), strings.Fields(c.login)}, {"target", strings.Fields(s.target), strings.Fields(c.target)}} {
			if !slices.Equal(x.got, x.want) {
				t.Errorf("%s: %s %q, want %q", c.what, x.what, x.got, x.want)
			}
		}
	}
}

func TestWhatCameFromElsewhereDrivesNoTerminal(t *testing.T) {
	if got := clean("a\x1b[2Jb\x07\u009bc\n"); got != "a?[2Jb??c\n" {
		t.Errorf("%q", got)
	}
}
