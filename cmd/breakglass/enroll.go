package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"breakglass/agent"
	"breakglass/agent/home"
	"breakglass/ca/api"
	"breakglass/ca/api/client"
	"breakglass/internal/name"
)

func newEnrollCmd(a *app) *cobra.Command {
	var o enrolOptions
	c := &cobra.Command{
		Use:   "enroll TOKEN | enroll -",
		Short: "Make your hardware key known to the CA (two touches)",
		Long: `Enroll spends a one-time token. The token pins the CA: its addresses, its keys and the head of its ledger.
The key makes a new credential (first touch) and signs its own enrolment (second touch).
With - the token is read from standard input: on a machine that others use too, they can see a command's arguments, and whoever is first with a
token has it.

With --ssh-keygen stock ssh-keygen makes the credential. Where the key is plugged in elsewhere, it goes in two steps, within ten minutes:
  breakglass enroll TOKEN --challenge-out challenge
  ssh-keygen ...                          (the first step prints the whole command)
  breakglass enroll TOKEN --key-file id --attestation attestation`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := api.TokenArg(args[0], a.stdin)
			if err != nil {
				return usage(err)
			}
			if err := o.check(); err != nil {
				return err
			}
			return a.enroll(cmd, text, o)
		},
	}
	f := c.Flags()
	f.StringVar(&o.key, "key-name", "key-1", "what you call this key")
	f.BoolVar(&a.show, "show", false, "print the statement before it is signed")
	f.BoolVar(&o.sshKeygen, "ssh-keygen", false, "have stock ssh-keygen make the credential")
	f.StringVar(&o.challengeOut, "challenge-out", "", "write the challenge to `FILE` and print the ssh-keygen command for it")
	f.StringVar(&o.keyFile, "key-file", "", "the key that ssh-keygen made: `FILE` (and FILE.pub)")
	f.StringVar(&o.attestation, "attestation", "", "the attestation that ssh-keygen wrote with it")
	f.StringVar(&o.code, "totp", "", "after a loss of all keys: the code that your other device shows")
	return c
}

// enrolOptions say which of the three ways the credential is made.
type enrolOptions struct {
	key                                string
	sshKeygen                          bool
	challengeOut, keyFile, attestation string
	code                               string
}

func (o enrolOptions) check() error {
	ways := 0
	for _, w := range []bool{o.sshKeygen, o.challengeOut != "", o.keyFile != "" || o.attestation != ""} {
		if w {
			ways++
		}
	}
	switch {
	case ways > 1:
		return usagef("--ssh-keygen, --challenge-out, and --key-file with --attestation are three ways: take one")
	case (o.keyFile == "") != (o.attestation == ""):
		return usagef("--key-file and --attestation go together: ssh-keygen wrote both")
	}
	return nil
}

func (a *app) enroll(cmd *cobra.Command, text string, o enrolOptions) error {
	ctx := cmd.Context()
	token, err := api.ParseToken(text)
	if err != nil {
		return withStatus(exitUsage, err, "copy the whole token, it is one line that begins with bg1.")
	}
	if token.For != api.ForPerson {
		return withStatus(exitUsage, fmt.Errorf("this is a %s", token.Redacted()), "on the jump: breakglass-jump join TOKEN")
	}
	person, err := name.ParsePerson(token.Name)
	if err != nil {
		return err
	}
	key, err := name.ParseKey(o.key)
	if err != nil {
		return usage(err)
	}
	who, err := a.beforeEnrolling(token, person, key)
	if err != nil {
		return err
	}
	// In memory first: what is pinned is written only once the CA has taken the key.
	c, err := a.clientOf(token.Pins, nil)
	if err != nil {
		return err
	}
	ag, fido, err := a.agent(c)
	if err != nil {
		return err
	}
	defer fido.Forget()
	ag.WithCode(o.code)
	var done *agent.Enrolment
	switch {
	case o.challengeOut != "":
		return a.beginEnrolment(ctx, ag, token, person, key, o.challengeOut)
	case o.keyFile != "":
		done, err = a.finishEnrolment(ctx, ag, token, key, o)
	case o.sshKeygen:
		a.term.Say("Enrolling %q for %s at %s (%s). Two touches: one makes the credential, one signs for it.", key, person, token.Pins.Site.Name, token.Pins.Site.Profile)
		done, err = ag.Enrol(ctx, person, key, token.Secret, &agent.SSHKeygenEnroller{Dir: a.home.Run, Device: a.getenv("BREAKGLASS_FIDO2_DEVICE"),
			Say: func(c string) { a.term.Say("%s", c) }, Stdin: a.stdin, Stdout: a.stderr, Stderr: a.stderr})
	default:
		e := &agent.HardwareEnroller{FIDO2: fido, Key: key}
		for _, k := range who.Keys {
			e.Exclude = append(e.Exclude, k.CredentialID)
		}
		a.term.Say("Enrolling %q for %s at %s (%s). Two touches: one makes the credential, one signs for it.", key, person, token.Pins.Site.Name, token.Pins.Site.Profile)
		done, err = ag.Enrol(ctx, person, key, token.Secret, e)
	}
	if err != nil {
		return err
	}
	return a.enrolled(ctx, token, who, key, done)
}

// enrolled remembers the CA and the key.
func (a *app) enrolled(ctx context.Context, token api.Token, who home.Person, key name.Key, done *agent.Enrolment) error {
	if err := a.home.SavePins(token.Pins); err != nil {
		return err
	}
	// Here, too: whoever only prints the ssh_config block finds the file that it names.
	if err := a.refreshKnownHosts(token.Pins.Site); err != nil {
		return err
	}
	who = who.WithKey(home.Key{Name: key, PublicKey: done.PublicKey, CredentialID: done.CredentialID})
	who.Person = done.Person
	if err := a.home.SavePerson(who); err != nil {
		return err
	}
	if follower, err := a.clientOf(token.Pins, home.Memory{Home: a.home}); err == nil {
		if err := a.follow(ctx, follower); err != nil { // the token is a day old at most; the next command follows
			a.term.Say("breakglass: warning: %v", err)
		}
	}
	if a.json {
		return a.printJSON(done.Enrolled)
	}
	a.term.Say("%s is enrolled for %s (%s).", key, done.Person, done.Fingerprint)
	switch {
	case done.Recovery && done.Pending:
		a.term.Say("It is a recovery: every other key of yours is gone.")
		a.term.Say("It counts once %d people have vouched for it, and it has cooled off.", done.Needed)
		a.term.Say("Next: read the fingerprint above to each of them. They type:")
		a.term.Say("  breakglass vouch %s %s", done.Person, key)
	case done.Pending:
		a.term.Say("It counts with the founding, if the site is not founded yet. After that:")
		a.term.Say("once another key of yours or %d people vouched for it, and it cooled off.", done.Needed)
		a.term.Say("Next: read the fingerprint above to whoever vouches. They type:")
		a.term.Say("  breakglass vouch %s %s", done.Person, key)
	default:
		a.term.Say("Next: breakglass ssh LOGIN@HOST")
	}
	if len(who.Keys) == 1 {
		a.term.Say("Enroll a second key too: one may be lost when it counts.")
	}
	return nil
}

// beforeEnrolling refuses a token that doesn't fit what this machine knows: pins are never exchanged by a token.
func (a *app) beforeEnrolling(token api.Token, person name.Person, key name.Key) (home.Person, error) {
	who := home.Person{Person: person}
	old, err := a.home.Pins()
	if err != nil {
		return who, nil // nothing pinned yet; a broken file is replaced
	}
	if old.Site.Origin != token.Pins.Site.Origin || old.Site.LedgerKey != token.Pins.Site.LedgerKey {
		return who, withStatus(exitUsage, fmt.Errorf("this machine is enrolled at %s, the token is of %s", old.Site.Origin, token.Pins.Site.Origin),
			"give the other installation a directory of its own: "+home.Env+"=DIR breakglass enroll TOKEN")
	}
	if who, err = a.home.LoadPerson(); err != nil {
		return home.Person{Person: person}, nil
	}
	if who.Person != person {
		return who, withStatus(exitUsage, fmt.Errorf("this machine is %s's, the token is for %s", who.Person, person),
			home.Env+"=DIR breakglass enroll TOKEN")
	}
	for _, k := range who.Keys {
		if k.Name == key {
			return who, withStatus(exitUsage, fmt.Errorf("you have a key named %q already", key), "breakglass enroll --key-name OTHER TOKEN")
		}
	}
	if time.Now().After(token.Expires) {
		a.term.Say("breakglass: warning: by this machine's clock the token ended %s", token.Expires.Local().Format(time.DateTime))
	}
	return who, nil
}

var _ agent.CA = (*client.Client)(nil)
