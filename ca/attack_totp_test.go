package ca_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"time"

	"github.com/pquerna/otp/totp"
	"golang.org/x/crypto/ssh"

	"breakglass/ca/api"
	"breakglass/ca/catest"
	"breakglass/internal/name"
	"breakglass/internal/sshcert"
	"breakglass/internal/statement"
	"breakglass/ledger"
)

func grantOf(id name.RequestID, host name.Host) sshcert.Grant {
	return sshcert.Grant{Request: id, Login: "root", Host: host}
}

// serialOf is the serial of a grant's client certificate.
func serialOf(a *arena, g *catest.Grant) string {
	a.t.Helper()
	k, _, _, _, err := ssh.ParseAuthorizedKey([]byte(g.Certificate))
	catest.Must(a.t, err)
	return strconv.FormatUint(k.(*ssh.Certificate).Serial, 10)
}

// withCodes has the web rule ask for a code too.
var withCodes = replace("forwards = [\"local db01:5432\"]", "totp = true\nforwards = [\"local db01:5432\"]")

// phone is a device that makes somebody's codes.
type phone struct {
	a    *arena
	p    *keyed
	seed *api.TOTPSeed
}

// code is what it shows now; each call is in the next half minute, a little after it began.
func (d *phone) code() string {
	d.a.t.Helper()
	d.a.clock.forward(time.Duration(31-d.a.clock.now().Unix()%30) * time.Second)
	c, err := totp.GenerateCode(d.seed.Secret, d.a.clock.now())
	catest.Must(d.a.t, err)
	return c
}

const codes = "/v1/totp"

// newPhone gets a seed for p, not enrolled yet.
func (a *arena) newPhone(p *keyed) *phone {
	a.t.Helper()
	d := &phone{a: a, p: p, seed: new(api.TOTPSeed)}
	catest.Must(a.t, a.Wire().Post(codes+"/seed", api.TOTPSeedAsk{Person: string(p.name), Device: "phone"}, d.seed))
	return d
}

func (d *phone) ask() *api.Challenge {
	d.a.t.Helper()
	sum := sha256.Sum256(d.seed.Sealed)
	return d.a.ask(codes, api.TOTPAsk{Person: string(d.p.name), Act: statement.TOTPEnrol, Device: "phone", Seed: hex.EncodeToString(sum[:])})
}

func (d *phone) answer(ch *api.Challenge, armored, code, current string) error {
	return d.a.Wire().Post(codes+"/"+ch.ID+"/signature", api.TOTPSigned{SSHSIG: armored, TOTP: code, Current: current, Sealed: d.seed.Sealed}, new(any))
}

// phone is an enrolled one.
func (a *arena) phone(p *keyed) *phone {
	a.t.Helper()
	d := a.newPhone(p)
	code := d.code()
	ch := d.ask()
	catest.Must(a.t, d.answer(ch, p.sign(ch), code, ""))
	return d
}

// withCode asks for root@web01 and signs, with a code.
func (a *arena) withCode(p *keyed, code string) error {
	a.t.Helper()
	ch := a.askFor(p, nil)
	return a.Wire().Post(requests+"/"+ch.ID+"/signature", api.Signed{SSHSIG: p.sign(ch), TOTP: code}, new(api.Granted))
}

// totpAttacks are on the code of the other channel. The victim is kept out after each, for this table's honest request gives no code.
func totpAttacks() []attack {
	const shut = "she gives no code"
	denied := func(code string) []due {
		return []due{{"totp.refused", "alice", code}, {"request.denied", "alice", code}}
	}
	rows := []attack{
		{what: "a touch without the code that the rule asks for", do: func(a *arena) error {
			a.phone(a.alice)
			a.begin()
			return a.withCode(a.alice, "")
		}, code: api.CodeDenied, due: []due{{"request.denied", "alice", "totp_missing"}}},
		{what: "a wrong code", do: func(a *arena) error {
			d := a.phone(a.alice)
			right := d.code()
			wrong := fmt.Sprintf("%06d", (mustInt(right)+1)%1000000)
			a.begin()
			return a.withCode(a.alice, wrong)
		}, code: ledger.TOTPCodeWrong, due: denied(ledger.TOTPCodeWrong)},
		{what: "a code used a second time", do: func(a *arena) error {
			c := a.phone(a.alice).code()
			catest.Must(a.t, a.withCode(a.alice, c))
			a.begin()
			return a.withCode(a.alice, c)
		}, code: ledger.TOTPCodeReplay, due: denied(ledger.TOTPCodeReplay)},
		{what: "a used code with a space in it", do: func(a *arena) error {
			c := a.phone(a.alice).code()
			catest.Must(a.t, a.withCode(a.alice, c))
			a.begin()
			return a.withCode(a.alice, c[:3]+" "+c[3:])
		}, code: ledger.TOTPCodeReplay, due: denied(ledger.TOTPCodeReplay)},
		{what: "a used code in other digits than ASCII's", do: func(a *arena) error {
			c := a.phone(a.alice).code()
			catest.Must(a.t, a.withCode(a.alice, c))
			wide := ""
			for _, d := range c {
				wide += string(rune('０' + d - '0'))
			}
			a.begin()
			return a.withCode(a.alice, wide)
		}, code: ledger.TOTPCodeWrong, due: denied(ledger.TOTPCodeWrong)},
		{what: "the code that enrolled the seed", do: func(a *arena) error {
			d := a.newPhone(a.alice)
			c := d.code()
			ch := d.ask()
			catest.Must(a.t, d.answer(ch, a.alice.sign(ch), c, ""))
			a.begin()
			return a.withCode(a.alice, c)
		}, code: ledger.TOTPCodeReplay, due: denied(ledger.TOTPCodeReplay)},
		{what: "a code older than one that was used", do: func(a *arena) error {
			d := a.phone(a.alice)
			older := d.code()
			catest.Must(a.t, a.withCode(a.alice, d.code()))
			a.begin()
			return a.withCode(a.alice, older)
		}, code: ledger.TOTPCodeReplay, due: denied(ledger.TOTPCodeReplay)},
		{what: "a code of mallory's phone", do: func(a *arena) error {
			a.phone(a.alice)
			c := a.phone(a.person("mallory")).code()
			a.begin()
			return a.withCode(a.alice, c)
		}, code: ledger.TOTPCodeWrong, due: denied(ledger.TOTPCodeWrong)},
		{what: "a right code after five wrong ones", do: func(a *arena) error {
			d := a.phone(a.alice)
			for range ledger.TOTPTries {
				problem(a.t, a.withCode(a.alice, "not it"))
			}
			c := d.code()
			a.begin()
			return a.withCode(a.alice, c)
		}, code: ledger.TOTPCodeLocked, due: denied(ledger.TOTPCodeLocked)},
		{what: "a right code after five wrong ones and a restart", do: func(a *arena) error {
			d := a.phone(a.alice)
			for range ledger.TOTPTries {
				problem(a.t, a.withCode(a.alice, "not it"))
			}
			a.Stop()
			a.Start()
			c := d.code()
			a.begin()
			return a.withCode(a.alice, c)
		}, code: ledger.TOTPCodeLocked, due: denied(ledger.TOTPCodeLocked)},
		{what: "a right code and no touch", do: func(a *arena) error {
			c := a.phone(a.alice).code()
			a.begin()
			ch := a.askFor(a.alice, nil)
			return a.Wire().Post(requests+"/"+ch.ID+"/signature", api.Signed{SSHSIG: a.alice.bent(ch, func(b *catest.Bent) { b.Flags = 0 }), TOTP: c}, nil)
		}, code: api.CodeNoTouch, due: []due{{"request.denied", "alice", api.CodeNoTouch}}},
		{what: "a right code and no signature at all", do: func(a *arena) error {
			c := a.phone(a.alice).code()
			a.begin()
			ch := a.askFor(a.alice, nil)
			return a.Wire().Post(requests+"/"+ch.ID+"/signature", api.Signed{TOTP: c}, nil)
		}, code: api.CodeRefused, sum: "malformed_signature"},
		{what: "a code of who has no phone", do: func(a *arena) error {
			a.begin()
			return a.withCode(a.alice, "123456")
		}, code: ledger.TOTPCodeNone, due: denied(ledger.TOTPCodeNone)},
		{what: "a phone of mallory's enrolled as alice's", do: func(a *arena) error {
			m := a.person("mallory")
			d := a.newPhone(a.alice)
			c := d.code()
			a.begin()
			ch := d.ask()
			return d.answer(ch, m.sign(ch), c, "")
		}, code: api.CodeRefused, sum: "wrong_key"},
		{what: "a second phone with alice's key alone", do: func(a *arena) error {
			a.phone(a.alice)
			d := a.newPhone(a.alice)
			c := d.code()
			ch := d.ask()
			a.begin()
			return d.answer(ch, a.alice.sign(ch), c, "")
		}, code: ledger.TOTPCodeCurrent, due: []due{{"act.denied", "alice", ledger.TOTPCodeCurrent}}},
		{what: "a seed that was sealed for mallory", do: func(a *arena) error {
			d := a.newPhone(a.person("mallory"))
			c := d.code()
			d.p = a.alice
			ch := d.ask()
			a.begin()
			return d.answer(ch, a.alice.sign(ch), c, "")
		}, code: api.CodeBadRequest, due: []due{{"act.denied", "alice", api.CodeBadRequest}}},
		{what: "another seed than the one that was signed for", do: func(a *arena) error {
			d, other := a.newPhone(a.alice), a.newPhone(a.alice)
			c := other.code()
			ch := d.ask()
			a.begin()
			return other.answer(ch, a.alice.sign(ch), c, "")
		}, code: api.CodeBadRequest, due: []due{{"act.denied", "alice", api.CodeBadRequest}}},
		{what: "a first code that the new seed does not give", do: func(a *arena) error {
			d := a.newPhone(a.alice)
			ch := d.ask()
			a.begin()
			return d.answer(ch, a.alice.sign(ch), "000 00", "")
		}, code: ledger.TOTPCodeWrong, due: []due{{"act.denied", "alice", ledger.TOTPCodeWrong}}},
	}
	for i := range rows {
		rows[i].change, rows[i].shut = withCodes, shut
	}
	return rows
}

func mustInt(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		panic(err)
	}
	return n
}
