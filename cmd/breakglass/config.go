package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"breakglass/agent/background"
	"breakglass/agent/home"
	"breakglass/agent/sshconfig"
	"breakglass/internal/durable"
)

// maxSSHConfig bounds the file that we change: one larger is no ssh_config.
const maxSSHConfig = 4 << 20

func newConfigCmd(a *app) *cobra.Command {
	c := &cobra.Command{Use: "config", Short: "Let plain ssh, scp, rsync and git use grants", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	var remove, print bool
	var hosts []string
	var file string
	install := &cobra.Command{
		Use:   "install",
		Short: "Write the ssh_config block and include it from ~/.ssh/config",
		Long: `Install writes a block of its own and one Include line at the top of ~/.ssh/config, and shows what changes.
While a grant is alive, plain ssh to its login@host goes through breakglass; all other connections stay as they are.
Names that fit --hosts always go through breakglass: without a grant, ssh asks for one (on a terminal) or refuses.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if remove {
				return a.configRemove(file)
			}
			return a.configInstall(cmd, file, hosts, print)
		},
	}
	install.Flags().BoolVar(&remove, "remove", false, "take it out again")
	install.Flags().BoolVar(&print, "print", false, "print the block and change nothing")
	install.Flags().StringSliceVar(&hosts, "hosts", nil, "patterns that always go through breakglass, as in web*,db*")
	install.Flags().StringVar(&file, "file", "", "the file to include it from (default ~/.ssh/config)")
	c.AddCommand(install)
	return c
}

func (a *app) block(hosts []string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	p, err := a.home.Pins()
	if err != nil {
		return "", err
	}
	b := sshconfig.Block{Program: self, Run: a.home.Run, KnownHosts: a.home.Path("known_hosts"), Hosts: hosts, JumpSocket: background.JumpSocket(a.home)}
	for _, j := range p.Site.Jumps {
		if len(j.Addresses) == 0 {
			continue
		}
		ip, port, err := net.SplitHostPort(j.Addresses[0])
		if err != nil {
			return "", fmt.Errorf("reading the pinned address of %s: %w", j.Name, err)
		}
		b.Jumps = append(b.Jumps, sshconfig.Jump{Name: j.Name, IP: ip, Port: port})
	}
	return b.Text()
}

func (a *app) configInstall(cmd *cobra.Command, file string, hosts []string, print bool) error {
	who, err := a.home.LoadPerson()
	if err != nil {
		return err
	}
	if !cmd.Flags().Changed("hosts") {
		hosts = who.Hosts
	}
	for _, h := range hosts {
		if err := sshconfig.CheckPattern(h); err != nil {
			return usage(err)
		}
	}
	text, err := a.block(hosts)
	if err != nil {
		return err
	}
	if print {
		_, err := fmt.Fprint(a.stdout, text)
		return err
	}
	if _, err := a.knownHosts(); err != nil {
		return err
	}
	path, err := sshConfigPath(file)
	if err != nil {
		return err
	}
	own := a.home.Path("ssh_config")
	line, err := sshconfig.Include(own)
	if err != nil {
		return err
	}
	config, err := readSSHConfig(path)
	if err != nil {
		return err
	}
	old, err := readSSHConfig(own)
	if err != nil {
		return err
	}
	next := sshconfig.WithInclude(config, line)
	a.diff(own, old, text)
	a.diff(path, config, next)
	if !slices.Equal(who.Hosts, hosts) {
		who.Hosts = hosts
		if err := a.home.SavePerson(who); err != nil {
			return err
		}
	}
	// The block first: an Include of a file that isn't there is silently nothing.
	if err := durable.WriteFile(own, []byte(text), 0o600); err != nil {
		return fmt.Errorf("writing ssh_config: %w", err)
	}
	if err := writeSSHConfig(path, config, next); err != nil {
		return err
	}
	if old == text && config == next {
		a.term.Say("Nothing to change: %s includes %s.", path, own)
		return nil
	}
	a.term.Say("Plain ssh uses grants from now on. breakglass config install --remove takes it out again.")
	return nil
}

func (a *app) configRemove(file string) error {
	path, err := sshConfigPath(file)
	if err != nil {
		return err
	}
	config, err := readSSHConfig(path)
	if err != nil {
		return err
	}
	next := sshconfig.WithoutInclude(config)
	a.diff(path, config, next)
	if err := writeSSHConfig(path, config, next); err != nil {
		return err
	}
	if err := durable.Remove(a.home.Path("ssh_config")); err != nil {
		return fmt.Errorf("removing ssh_config: %w", err)
	}
	if who, err := a.home.LoadPerson(); err == nil && len(who.Hosts) > 0 {
		who.Hosts = nil
		if err := a.home.SavePerson(who); err != nil {
			return err
		}
	} else if err != nil && !errors.Is(err, home.ErrNotEnrolled) {
		return err
	}
	a.term.Say("Removed.")
	return nil
}

func (a *app) diff(path, old, next string) {
	fmt.Fprint(a.stderr, sshconfig.Diff(path, old, next))
}

// sshConfigPath is the file that ssh reads: in the home directory of the password database, whatever HOME says.
func sshConfigPath(file string) (string, error) {
	if file == "" {
		dir, err := os.UserHomeDir()
		if u, uerr := user.LookupId(strconv.Itoa(os.Getuid())); uerr == nil && u.HomeDir != "" {
			dir, err = u.HomeDir, nil
		}
		if err != nil {
			return "", fmt.Errorf("finding ~/.ssh/config: %w", err)
		}
		file = filepath.Join(dir, ".ssh", "config")
	}
	abs, err := filepath.Abs(file)
	if err != nil {
		return "", err
	}
	// Many keep it as a link into a repository: the file behind it is changed, the link stays.
	if real, err := filepath.EvalSymlinks(abs); err == nil {
		return real, nil
	}
	return abs, nil
}

func readSSHConfig(path string) (string, error) {
	st, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("reading %s: %w", path, err)
	}
	if st.Size() > maxSSHConfig {
		return "", fmt.Errorf("reading %s: %d bytes are no ssh_config", path, st.Size())
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("reading %s: %w", path, err)
	}
	return strings.TrimPrefix(string(b), "\ufeff"), nil
}

// writeSSHConfig keeps the file's mode; one that we make is the person's alone, or ssh refuses it.
func writeSSHConfig(path, old, next string) error {
	if old == next {
		return nil
	}
	mode := fs.FileMode(0o600)
	if st, err := os.Stat(path); err == nil {
		mode = st.Mode().Perm()
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	if err := durable.WriteFile(path, []byte(next), mode); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}
