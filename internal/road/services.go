package road

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"text/template"

	"breakglass/internal/softkey"
)

// DemoPolicy is the policy of the demo. It says loudly that it is one.
const DemoPolicy = `# A DEMO POLICY. Software keys count here, which no production policy allows: this guards nothing.
profile = "demo"

[site]
name      = "demo"
owners    = ["alice"]
operators = ["alice"]
readers   = ["bob"]              # who can open recordings: not the one who makes them

[people.alice]
groups  = ["oncall"]
contact = "alice, at the desk"

[people.bob]
groups  = ["reviewers"]
contact = "bob, at the next desk"

[networks]
here = ["127.0.0.0/8", "::1/128"]

[always]
uv         = true
reason_min = 20
anonymous  = "deny"
trusted    = ["here"]            # everything here is on loopback, which no geo database knows

[jumps.{{.Jump}}]
address = ["{{.JumpAddress}}"]
source  = ["127.0.0.1/32"]

[hosts.{{.Host}}]
address   = ["{{.HostAddress}}"]
host_keys = ["{{.HostKey}}"]
groups    = ["web"]

[[rule]]
name    = "oncall-web"
why     = "DEMO: on-call may enter web servers at once."
who     = ["@oncall"]
hosts   = ["@web"]
logins  = ["{{.Login}}"]
minutes = 30

[[test]]
name   = "on-call enters a web server"
person = "alice"
host   = "{{.Host}}"
login  = "{{.Login}}"
from   = ["127.0.0.1"]
reason = "sso is down, web01 serves 500, INC-4711"
expect = "allow"
rule   = "oncall-web"

[[test]]
name    = "a reviewer does not"
person  = "bob"
host    = "{{.Host}}"
login   = "{{.Login}}"
from    = ["127.0.0.1"]
reason  = "sso is down, web01 serves 500, INC-4711"
expect  = "deny"
reasons = ["no_rule"]
`

// Values are what a policy template may name.
type Values struct {
	Login, Host, HostAddress, HostKey, Jump, JumpAddress string
	More                                                 map[string]string
}

func (r *Road) startCA(ctx context.Context) error {
	text := r.Policy
	if text == "" {
		text = DemoPolicy
	}
	t, err := template.New("policy").Parse(text)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	ca, jump := r.CAAddress, r.JumpAddress
	if r.Proxy != nil {
		ca, jump = r.Proxy(ca), r.Proxy(jump)
	}
	r.jumpReached = jump
	if err := t.Execute(&b, Values{r.Login, Host, r.HostAddress, r.HostKey, Jump, jump, r.More}); err != nil {
		return err
	}
	if err := os.WriteFile(r.path("policy.toml"), b.Bytes(), 0o600); err != nil {
		return err
	}
	r.say("ca       on %s, policy.toml (DEMO: software keys count)", r.CAAddress)
	args := []string{"init", "--dir", r.path("ca"), "--policy", r.path("policy.toml"), "--listen", r.CAAddress, "--advertise", ca}
	if r.Geo != "" {
		args = append(args, "--geo", r.Geo)
	}
	init := exec.CommandContext(ctx, filepath.Join(r.Bin, "breakglass-ca"), append(args, r.Init...)...)
	if r.Passphrase != "" {
		// The service finds it as systemd hands it over; init reads it from a descriptor.
		if err := os.MkdirAll(r.path("credentials"), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(r.path("credentials", "breakglass-ca-passphrase"), []byte(r.Passphrase+"\n"), 0o600); err != nil {
			return err
		}
		init.Args = append(init.Args, "--seal", "passphrase", "--passphrase-fd", "0")
		init.Stdin = strings.NewReader(r.Passphrase + "\n")
	}
	if _, err := output(init); err != nil {
		return err
	}
	if err := r.StartCA(ctx); err != nil {
		return err
	}
	_, err = r.Run(ctx, "breakglass-ca", "host", "setup", Host, "--dir", r.path("ca"), "--out", r.path("host", "setup"))
	return err
}

func (r *Road) caEnv() []string {
	if r.Passphrase == "" {
		return nil
	}
	return []string{"CREDENTIALS_DIRECTORY=" + r.path("credentials")}
}

// StartCA starts the CA's service, again after End.
func (r *Road) StartCA(ctx context.Context) error {
	return r.spawn(ctx, "ca", r.CAAddress, r.caEnv(), filepath.Join(r.Bin, "breakglass-ca"), "serve", "--dir", r.path("ca"))
}

func (r *Road) startJump(ctx context.Context) error {
	r.say("jump     %s on %s", Jump, r.JumpAddress)
	token, err := r.Run(ctx, "breakglass-ca", "invite", "--dir", r.path("ca"), "--jump", Jump)
	if err != nil {
		return err
	}
	if _, err := r.Run(ctx, "breakglass-jump", "join", strings.TrimSpace(token), "--dir", r.path("jump"),
		"--listen", r.JumpAddress, "--advertise", r.jumpReached, "--source", "127.0.0.1"); err != nil {
		return err
	}
	return r.StartJump(ctx)
}

// StartJump starts the jump's service, again after End.
func (r *Road) StartJump(ctx context.Context) error {
	return r.spawn(ctx, "jump", r.JumpAddress, nil, filepath.Join(r.Bin, "breakglass-jump"), "serve", "--dir", r.path("jump"))
}

// Plug gives a person a home and a software key in the machine, not enrolled.
func (r *Road) Plug(name string) (*Person, error) {
	home := r.path(name)
	if err := os.MkdirAll(home, 0o700); err != nil {
		return nil, err
	}
	// What a person would type at the prompts: ssh's own way for programs without a terminal.
	for file, answer := range map[string]string{"pin": PIN, "passphrase": Passphrase} {
		if err := os.WriteFile(filepath.Join(home, file), []byte(answer+"\n"), 0o600); err != nil {
			return nil, err
		}
	}
	if err := os.WriteFile(filepath.Join(home, "askpass"), []byte("#!/bin/sh\nexec cat '"+filepath.Join(home, "pin")+"'\n"), 0o700); err != nil {
		return nil, err
	}
	p := &Person{Name: name, Home: home, road: r, keys: map[string]*softkey.Key{}}
	r.People[name] = p
	return p, p.Use("software-key")
}

// Use puts another key of the person's into the machine in place of the one that is there; one that they had not is made.
func (p *Person) Use(key string) error {
	if k, ok := p.keys[key]; ok {
		p.Key = k
		return nil
	}
	cfg := p.road.Make
	cfg.StatePath, cfg.PIN = filepath.Join(p.Home, key+".json"), PIN
	if p.road.Touch != nil {
		cfg.Touch = func(op string) bool { return p.road.Touch(p.Name, op) }
	}
	k, err := softkey.Open(cfg)
	if err != nil {
		return err
	}
	p.Key, p.keys[key] = k, k
	return nil
}

// Enrol plugs a person's key in and enrols it with an invite.
func (r *Road) Enrol(ctx context.Context, name string) (*Person, error) {
	p, err := r.Plug(name)
	if err != nil {
		return nil, err
	}
	token, err := r.Run(ctx, "breakglass-ca", "invite", "--dir", r.path("ca"), name)
	if err != nil {
		return nil, err
	}
	r.say("%-8s enrols a software key through the real libfido2, on %s", name, p.Key.Path())
	_, err = output(p.Command(ctx, "breakglass", "enroll", strings.TrimSpace(token), "--key-name", "soft-"+name))
	return p, err
}

// Reader makes the person's reading identity and records it, so that recordings can be sealed to them. It is sealed under their key, or by a passphrase
// where how says so.
func (p *Person) Reader(ctx context.Context, how ...string) error {
	p.road.say("%-8s makes a reading identity; recordings are sealed to it", p.Name)
	_, err := output(p.Command(ctx, "breakglass", append([]string{"reviewer", "init"}, how...)...))
	return err
}

// Env is what makes a command this person's.
func (p *Person) Env() []string {
	return []string{
		"BREAKGLASS_HOME=" + p.Home,
		"BREAKGLASS_FIDO2_DEVICE=" + p.Key.Path(),
		"BREAKGLASS_PASSPHRASE_FILE=" + filepath.Join(p.Home, "passphrase"),
		"SSH_ASKPASS=" + filepath.Join(p.Home, "askpass"),
		"SSH_ASKPASS_REQUIRE=force",
		"PATH=" + p.road.Bin + string(os.PathListSeparator) + os.Getenv("PATH"),
	}
}

// Command is a program of the road, or any other, run as the person.
func (p *Person) Command(ctx context.Context, program string, args ...string) *exec.Cmd {
	if path := filepath.Join(p.road.Bin, program); !strings.Contains(program, "/") {
		if _, err := os.Stat(path); err == nil {
			program = path
		}
	}
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), p.Env()...)
	return cmd
}

// Run runs a command of the person's to its end and gives its standard output.
func (p *Person) Run(ctx context.Context, program string, args ...string) (string, error) {
	return output(p.Command(ctx, program, args...))
}

func (p *Person) stopAgent() {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	if err := p.EndAgent(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "ending %s's background process: %v\n", p.Name, err)
	}
}

// EndAgent ends the person's background process, and with it their grants' keys; that there is none is no error.
func (p *Person) EndAgent(ctx context.Context) error {
	out, err := p.Command(ctx, "breakglass", "agent", "--stop").CombinedOutput()
	if err != nil && !bytes.Contains(out, []byte("no background process")) {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
}

// Target is the login@host that the demo's policy opens.
func (p *Person) Target() string { return p.road.Login + "@" + Host }
