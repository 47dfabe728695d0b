package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"breakglass/agent"
	"breakglass/ca/api"
	"breakglass/internal/durable"
	"breakglass/internal/name"
)

// maxKeyFile bounds the files of ssh-keygen in bytes.
const maxKeyFile = 64 << 10

// begun is an enrolment between its two steps. It holds no secret: the challenge is of use only with the token.
type begun struct {
	Challenge *api.EnrolChallenge `json:"challenge"`
	Origin    string              `json:"origin"`
	Key       name.Key            `json:"key"`
}

const begunFile = "enrolment.json"

// beginEnrolment gets a challenge for a key that is plugged in elsewhere, and says how it is made.
func (a *app) beginEnrolment(ctx context.Context, ag *agent.Agent, token api.Token, person name.Person, key name.Key, file string) error {
	ch, err := ag.BeginEnrolment(ctx, person, key, token.Secret)
	if err != nil {
		return err
	}
	b, err := json.Marshal(begun{ch, token.Pins.Site.Origin, key})
	if err != nil {
		return err
	}
	if err := a.home.MakeConfig(); err != nil {
		return err
	}
	if err := durable.WriteFile(a.home.Path(begunFile), b, 0o600); err != nil {
		return err
	}
	if err := os.WriteFile(file, ch.Challenge, 0o600); err != nil {
		return fmt.Errorf("writing the challenge: %w", err)
	}
	a.term.Say("The challenge is in %s, good for ten minutes. Where the key is plugged in, with that file:", file)
	fmt.Fprintln(a.stdout, agent.Shell("ssh-keygen", agent.SSHKeygenArgs("id", file, "attestation", "")...))
	a.term.Say("Then here, with the files id, id.pub and attestation:")
	a.term.Say("  breakglass enroll TOKEN --key-name %s --key-file id --attestation attestation", key)
	return nil
}

// finishEnrolment shows the CA what ssh-keygen made for the challenge of the first step.
func (a *app) finishEnrolment(ctx context.Context, ag *agent.Agent, token api.Token, key name.Key, o enrolOptions) (*agent.Enrolment, error) {
	again := "begin again: breakglass enroll TOKEN --challenge-out challenge"
	b, err := readFile(a.home.Path(begunFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, withStatus(exitUsage, errors.New("no enrolment was begun on this machine"), again)
	} else if err != nil {
		return nil, err
	}
	var was begun
	if err := json.Unmarshal(b, &was); err != nil || was.Challenge == nil {
		return nil, withStatus(exitUsage, fmt.Errorf("%s can't be read", a.home.Path(begunFile)), again)
	}
	if was.Origin != token.Pins.Site.Origin || string(was.Challenge.Person) != token.Name || was.Key != key {
		return nil, withStatus(exitUsage, fmt.Errorf("the enrolment that was begun is of key %q for %s at %s", was.Key, was.Challenge.Person, was.Origin), again)
	}
	pub, err := readFile(o.keyFile + ".pub")
	if err != nil {
		return nil, withStatus(exitUsage, err, "name the file without .pub")
	}
	att, err := readFile(o.attestation)
	if err != nil {
		return nil, withStatus(exitUsage, err, "ssh-keygen writes it with -O write-attestation=FILE")
	}
	cred, err := agent.FromSSHKeygen(pub, att, was.Challenge.Challenge)
	if err != nil {
		return nil, withStatus(exitUsage, err, again)
	}
	done, err := ag.FinishEnrolment(ctx, was.Challenge, key, token.Secret, cred)
	if err != nil {
		return nil, err
	}
	return done, os.Remove(a.home.Path(begunFile))
}

// readFile reads a small file.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err == nil && len(b) > maxKeyFile {
		err = fmt.Errorf("%s has more than %d bytes", path, maxKeyFile)
	}
	return b, err
}
