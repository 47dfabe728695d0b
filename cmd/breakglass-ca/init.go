package main

import (
	"errors"
	"path/filepath"

	"github.com/spf13/cobra"

	"breakglass/ca"
	"breakglass/ca/custody"
	"breakglass/policy"
)

func newInitCmd(a *app) *cobra.Command {
	var policyFile string
	var cfg ca.InitConfig
	var seal sealFlags
	var witnesses witnessFlags
	c := a.withDir(&cobra.Command{
		Use: "init --policy FILE --listen IP:PORT", Short: "Make a CA: keys, configuration, ledger", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if policyFile == "" || len(cfg.Listen) == 0 {
				return usagef("say --policy FILE and --listen IP:PORT")
			}
			src, err := readPolicyText(cmd, policyFile)
			if err != nil {
				return err
			}
			cfg.PolicyName, cfg.Policy = policyFile, src
			if cfg.Dir, err = filepath.Abs(a.dir); err != nil {
				return err
			}
			if f := cmd.Flags(); f.Changed("witness") || f.Changed("quorum") || f.Changed("no-jumps") {
				if cfg.Witnesses, err = witnesses.list(); err != nil {
					return err
				}
			}
			files := []*string{&cfg.Geo.Country, &cfg.Geo.Anonymous}
			for _, list := range [][]string{cfg.Attestation.Roots, cfg.Attestation.Intermediates} {
				for i := range list {
					files = append(files, &list[i])
				}
			}
			for _, f := range files {
				if *f == "" {
					continue
				}
				if *f, err = filepath.Abs(*f); err != nil { // the service runs elsewhere
					return err
				}
			}
			if err := seal.sealing(cmd, a, &cfg); err != nil {
				return err
			}
			site, err := ca.Init(cmd.Context(), cfg)
			if err = errors.Join(err, seal.clean()); errors.Is(err, ca.ErrPlainKey) {
				return withHint(err, "breakglass-ca init … --seal passphrase      asked for at each start, or a credential of the unit",
					"breakglass-ca init … --seal credential      encrypted by this machine (systemd-creds)")
			}
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(site)
			}
			dir := ""
			if a.dir != defaultDir {
				dir = " --dir " + a.dir
			}
			a.say("CA %q made in %s, profile %s", site.Name, cfg.Dir, site.Profile)
			a.say("  origin    %s", site.Origin)
			for _, addr := range site.Addresses {
				a.say("  address   %s", addr)
			}
			if site.Profile == string(policy.Demo) {
				a.say("  DEMO      software keys count here: this guards nothing")
			}
			a.say("next:")
			a.say("  move %s off this machine: it replaces these keys if they are lost", filepath.Join(cfg.Dir, "standby-keys"))
			if cfg.Seal.Kind == custody.Credential {
				a.say("  name each credential of %s in the unit: LoadCredentialEncrypted=NAME", seal.credentials)
			}
			a.say("  breakglass-ca serve%s", dir)
			a.say("  breakglass-ca invite%s --jump NAME    for `breakglass-jump join` there", dir)
			a.say("  breakglass-ca invite%s PERSON         for `breakglass enroll` there, a key each", dir)
			if site.Profile != string(policy.Demo) {
				a.say("  breakglass found             by each owner, once every key is enrolled")
			}
			a.say("  breakglass reviewer init     by each reader: before one has, no session opens")
			a.say("  breakglass-ca host setup%s HOST       what to put onto each host", dir)
			a.say("  breakglass-ca status%s                what is missing still", dir)
			return nil
		},
	})
	seal.add(c)
	f := c.Flags()
	f.StringVar(&policyFile, "policy", "", "the first policy, a `FILE` or a directory of files")
	f.StringArrayVar(&cfg.Listen, "listen", nil, "IP:PORT to listen on (again for more: one a family)")
	f.StringArrayVar(&cfg.Proxies, "proxy", nil, "a proxy in front that sends PROXY v2 headers, IP or network (again for more)")
	f.StringArrayVar(&cfg.Advertise, "advertise", nil, "IP:PORT where clients reach it, if it is another (again for more)")
	witnesses.add(f)
	f.StringVar(&cfg.Geo.Country, "geo", "", "a MaxMind Country or City database")
	f.StringVar(&cfg.Geo.ASN, "geo-asn", "", "a MaxMind ASN database")
	f.StringVar(&cfg.Geo.Anonymous, "geo-anonymous", "", "a MaxMind Anonymous-IP database")
	f.StringArrayVar(&cfg.Attestation.Roots, "attestation-root", nil, "PEM `FILE` of a root of a maker of hardware keys (again for more)")
	f.StringArrayVar(&cfg.Attestation.Intermediates, "attestation-intermediate", nil, "PEM `FILE` of certificates between keys and roots (again for more)")
	return c
}
