package ca

import (
	"context"
	"path/filepath"
	"reflect"
	"time"

	"breakglass/internal/policyfiles"
	"breakglass/internal/policytext"
	"breakglass/policy"
)

// This file is what the service does when it is told to look again (SIGHUP): nothing of it can end the service, and nothing of it lets anybody in. The
// policy file is proposed, never adopted; the geo databases are read anew; the rest of the configuration takes a start.

// Reloaded says what Reload found.
type Reloaded struct {
	// Policy is what became of the policy file: "in force" (or already proposed), "proposed", "refused", or "waits for the founding".
	Policy string
	Fault  error    // why it was refused
	Stale  []string // keys of the configuration that changed and take a start
}

// Reload reads anew what can be, and logs what it finds.
func (c *CA) Reload(ctx context.Context) (*Reloaded, error) {
	out := &Reloaded{}
	file := "policy.toml"
	if f, err := readFile(filepath.Join(c.cfg.Dir, "config.toml")); err != nil {
		c.log.Error("the configuration can't be read: what was read at the start goes on", "error", err)
	} else {
		if f.Policy != "" {
			file = f.Policy
		}
		out.Stale = c.changedKeys(f)
		for _, k := range out.Stale {
			c.log.Warn("the configuration changed: restart the service for it", "key", k)
		}
	}
	if c.file.Geo != (FileGeo{}) {
		if err := c.geo.Reload(); err != nil {
			c.log.Error("a geo database can't be read: the last good ones go on", "error", err)
		}
	}
	if !filepath.IsAbs(file) {
		file = filepath.Join(c.cfg.Dir, file)
	}
	err := c.reloadPolicy(ctx, file, out)
	if out.Policy != "" {
		c.metrics.policyReloaded(out.Policy)
	}
	return out, err
}

// changedKeys are the keys of the configuration that differ from those that the service started with.
func (c *CA) changedKeys(f File) (out []string) {
	c.rotation.Lock() // a rotation moves keys
	defer c.rotation.Unlock()
	was, is := reflect.ValueOf(c.file), reflect.ValueOf(f)
	for i := range was.NumField() {
		if key := was.Type().Field(i).Tag.Get("toml"); key != "policy" && !reflect.DeepEqual(was.Field(i).Interface(), is.Field(i).Interface()) {
			out = append(out, key)
		}
	}
	return out
}

func (c *CA) reloadPolicy(ctx context.Context, file string, out *Reloaded) error {
	b, err := policyfiles.Read(file, policy.MaxFileBytes)
	if err != nil { // no text to tell from another: the error stands for it
		out.Policy, out.Fault = "refused", err
		return c.refusePolicy(ctx, file, []byte(err.Error()), err)
	}
	text, now := string(b), c.policy.Load()
	// Hosts that operators imported are in no file of the owners': they stay, unless the file has its own word on them.
	kept := withImported(text, string(now.Source))
	waiting := ""
	if q := c.proposal.Load(); q != nil {
		waiting = string(q.policy.Source)
	}
	for _, t := range []string{text, kept} {
		if t == string(now.Source) || t == waiting {
			out.Policy = "in force"
			return nil
		}
	}
	if site, err := c.site(ctx); err != nil {
		return err
	} else if !site.Founded { // the owners sign the first with their keys
		out.Policy = "waits for the founding"
		c.log.Warn("the policy file changed, and the site is not founded yet: it is proposed once it is", "file", file)
		return nil
	}
	q, err := c.checkProposal(file, kept)
	if err != nil && kept != text {
		c.log.Warn("the policy file does not go together with the imported hosts: it is proposed without them", "file", file, "error", err)
		kept = text
		q, err = c.checkProposal(file, text)
	}
	if err != nil {
		out.Policy, out.Fault = "refused", err
		return c.refusePolicy(ctx, file, b, err)
	}
	q.from, q.since = "file "+filepath.Base(file), c.now().Truncate(time.Second)
	if err := c.propose(q, kept); err != nil {
		return err
	}
	out.Policy = "proposed"
	c.log.Info("a policy is proposed: its owners have to sign it (breakglass policy sign)", "file", file, "sha256", q.sum.String(), "signers", now.Site.Signers, "owners", people(now.Site.Owners))
	return nil
}

// withImported is a file's text with the hosts that were imported into the policy in force, where the file holds none itself.
func withImported(text, inForce string) string {
	files, err := policytext.Split(inForce)
	if err != nil || files[len(files)-1].Name != policytext.Imported {
		return text
	}
	mine, err := policytext.Split(text)
	if err != nil || mine[len(mine)-1].Name == policytext.Imported {
		return text
	}
	out, err := policytext.Import(text, files[len(files)-1].Text)
	if err != nil {
		return text
	}
	return out
}
