package main

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"breakglass/ca/api"
	"breakglass/internal/name"
	"breakglass/internal/sshcert"
	"breakglass/ledger"
	"breakglass/policy"
)

func newHostCmd(a *app) *cobra.Command {
	return group("host", "What a host needs", newHostSetupCmd(a), newHostImportCmd(a))
}

// Where the files go on a host.
const (
	sshDir        = "/etc/ssh"
	sessionCAFile = "breakglass_session_ca.pub"
	principalsDir = "breakglass_principals"
	dropIn        = "50-breakglass.conf"
	krlConfFile   = "krl.conf"
	krlConfPath   = "/etc/breakglass/krl.conf"
)

// hostFile is one file to put onto a host.
type hostFile struct {
	Name    string `json:"name"` // under --out
	Path    string `json:"path"` // on the host
	Content string `json:"content"`
}

func newHostSetupCmd(a *app) *cobra.Command {
	var out string
	c := a.withDir(&cobra.Command{
		Use: "setup HOST", Short: "Print or write a host's files: sshd drop-in, principals, CA key, krl.conf", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			host, err := name.ParseHost(args[0])
			if err != nil {
				return usage(err)
			}
			site, p, err := a.siteAndPolicy(cmd.Context())
			if err != nil {
				return err
			}
			files, err := hostFiles(host, site, p)
			if err != nil {
				return err
			}
			switch {
			case a.json:
				return a.printJSON(map[string]any{"host": host, "files": files})
			case out != "":
				if err := writeHostFiles(out, files); err != nil {
					return err
				}
				a.say("written to %s; on %s they go to:", out, host)
				for _, f := range files {
					a.say("  %-30s  %s", f.Name, f.Path)
				}
			default:
				for i, f := range files {
					if i > 0 {
						fmt.Fprintln(a.stdout)
					}
					fmt.Fprintf(a.stdout, "==> %s <==\n%s", f.Path, f.Content)
				}
			}
			a.say("on %s, as root:", host)
			a.say("  keep a session open until a second one has worked")
			a.say("  sshd -T | grep -iE 'trustedusercakeys|authorizedprincipalsfile'")
			a.say("      if either is set already, the first value wins and ours would be")
			a.say("      ignored: add our key and principals to those files instead")
			a.say("  put the files there (owner root, mode 644; directories 755), the drop-in last")
			a.say("  sshd -t && systemctl reload ssh      (on some systems the unit is sshd)")
			a.say("  contrib/hosts/README.md: the revocation list, which krl.conf is for")
			return nil
		},
	})
	c.Flags().StringVar(&out, "out", "", "write the files into this directory instead of printing them")
	return c
}

// siteAndPolicy asks the CA for both. The file beside the database may be the next policy, or an older one: what is in force stands in the ledger.
func (a *app) siteAndPolicy(ctx context.Context) (ledger.Site, *policy.Policy, error) {
	var site api.SiteAnswer
	err := a.withAdmin(ctx, func(ad *admin) error {
		return ad.call(ctx, http.MethodGet, "/v1/site", nil, &site)
	})
	if err != nil {
		return ledger.Site{}, nil, err
	}
	p, err := a.policyAtWork(ctx)
	return site.Site, p, err
}

// hostFiles makes the files for a host of the policy: each login that some rule opens there gets its principals file.
func hostFiles(host name.Host, site ledger.Site, p *policy.Policy) ([]hostFile, error) {
	info, ok := p.Host(host)
	if !ok {
		return nil, withHint(fmt.Errorf("%s is no host of the policy", host), "add [hosts."+string(host)+"] to the policy")
	}
	var logins []name.Login
	for _, r := range p.Rules {
		if opens(r, info) {
			logins = append(logins, r.Logins...)
		}
	}
	if len(logins) == 0 {
		return nil, withHint(fmt.Errorf("no rule of the policy opens %s", host), "add it to a rule's hosts")
	}
	slices.Sort(logins)
	logins = slices.Compact(logins)
	var keys strings.Builder
	for i, k := range site.SessionCA {
		what := "standby"
		if i == 0 {
			what = "active"
		}
		fmt.Fprintf(&keys, "# %s, %s session CA\n%s\n", site.Origin, what, k)
	}
	files := []hostFile{{sessionCAFile, path.Join(sshDir, sessionCAFile), keys.String()}}
	for _, l := range logins {
		files = append(files, hostFile{path.Join(principalsDir, string(l)), path.Join(sshDir, principalsDir, string(l)), sshcert.SessionPrincipal(l, host) + "\n"})
	}
	krl, err := krlConf(site)
	if err != nil {
		return nil, err
	}
	return append(files, hostFile{krlConfFile, krlConfPath, krl}, hostFile{dropIn, path.Join(sshDir, "sshd_config.d", dropIn), dropInText}), nil
}

// krlConf is the configuration of contrib/hosts, filled in: where the list is, and by which keys its server is believed (base64, as curl wants it).
func krlConf(site ledger.Site) (string, error) {
	pins := make([]string, len(site.TLS))
	for i, k := range site.TLS {
		b, err := hex.DecodeString(k)
		if err != nil {
			return "", fmt.Errorf("the site's TLS key %q: %w", k, err)
		}
		pins[i] = "sha256//" + base64.StdEncoding.EncodeToString(b)
	}
	return fmt.Sprintf("# For breakglass-krl of contrib/hosts, which keeps the revocation list fresh.\nCA=%q\nPINS=%q\nFILE=%s\nORIGIN=%q\n",
		strings.Join(site.Addresses, " "), strings.Join(pins, ";"), path.Join(sshDir, "breakglass_krl"), site.Origin), nil
}

// opens tells whether a rule names the host, one of its groups or a pattern that covers it.
func opens(r policy.Rule, h policy.HostInfo) bool {
	return slices.ContainsFunc(r.Hosts, func(s string) bool {
		if g, ok := strings.CutPrefix(s, "@"); ok {
			return slices.Contains(h.Groups, name.Group(g))
		}
		if before, after, ok := strings.Cut(s, "*"); ok {
			n := string(h.Name)
			return len(n) >= len(before)+len(after) && strings.HasPrefix(n, before) && strings.HasSuffix(n, after)
		}
		return s == string(h.Name)
	})
}

// dropInText is the same for every host; contrib/sshd holds a copy.
const dropInText = `# breakglass: lets in whoever the jump brings, under a certificate that was made for one session, this host and one login.
#
# Only the session CA is trusted. A certificate counts for a login only if its principal (session:LOGIN@HOST) stands in
# that login's file, so one that was made for another host is refused here.
TrustedUserCAKeys /etc/ssh/breakglass_session_ca.pub
AuthorizedPrincipalsFile /etc/ssh/breakglass_principals/%u
`

func writeHostFiles(out string, files []hostFile) error {
	for _, f := range files {
		p := filepath.Join(out, filepath.FromSlash(f.Name))
		// sshd refuses files and directories that others may write (StrictModes).
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(p, []byte(f.Content), 0o644); err != nil {
			return err
		}
	}
	return nil
}
