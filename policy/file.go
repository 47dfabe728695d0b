package policy

// The types of this file are the TOML as it is written; compile.go turns them into a Policy. Whether a key was
// written at all is asked of the index (positions.go), not of pointers.

type file struct {
	Profile   string                `toml:"profile"`
	Site      fileSite              `toml:"site"`
	People    map[string]filePerson `toml:"people"`
	Networks  map[string][]string   `toml:"networks"`
	Always    fileAlways            `toml:"always"`
	Enrolment fileEnrolment         `toml:"enrolment"`
	Jumps     map[string]fileJump   `toml:"jumps"`
	Hosts     map[string]fileHost   `toml:"hosts"`
	Rules     []fileRule            `toml:"rule"`
	Tests     []fileTest            `toml:"test"`
}

type fileSite struct {
	Name      string   `toml:"name"`
	Owners    []string `toml:"owners"`
	Operators []string `toml:"operators"`
	Readers   []string `toml:"readers"`
}

type filePerson struct {
	Groups  []string `toml:"groups"`
	Contact string   `toml:"contact"`
}

type fileAlways struct {
	UV            bool     `toml:"uv"`
	ReasonMin     int      `toml:"reason_min"`
	Countries     []string `toml:"countries"`
	Anonymous     string   `toml:"anonymous"`
	Trusted       []string `toml:"trusted"`
	DenyNetworks  []string `toml:"deny_networks"`
	GeoMaxAgeDays int      `toml:"geo_max_age_days"`
	MaxMinutes    int      `toml:"max_minutes"`
	Grace         string   `toml:"grace"`
	Idle          string   `toml:"idle"`
	Approvers     []string `toml:"approvers"`
	Override      string   `toml:"override"`
}

type fileEnrolment struct {
	KeysRequired int         `toml:"keys_required"`
	RenewDays    int         `toml:"renew_days"`
	GraceDays    int         `toml:"grace_days"`
	CoolingOff   string      `toml:"cooling_off"`
	Models       []fileModel `toml:"model"`
}

type fileModel struct {
	Name     string   `toml:"name"`
	AAGUID   string   `toml:"aaguid"`
	Firmware string   `toml:"firmware"`
	Roots    []string `toml:"roots"`
}

type fileJump struct {
	Address []string `toml:"address"`
	Source  []string `toml:"source"`
}

type fileHost struct {
	Address  []string `toml:"address"`
	HostKeys []string `toml:"host_keys"`
	HostCA   []string `toml:"host_ca"`
	Groups   []string `toml:"groups"`
}

type fileRule struct {
	Name      string   `toml:"name"`
	Why       string   `toml:"why"`
	Who       []string `toml:"who"`
	Hosts     []string `toml:"hosts"`
	Logins    []string `toml:"logins"`
	Minutes   int      `toml:"minutes"`
	Approvals int      `toml:"approvals"`
	Approvers []string `toml:"approvers"`
	Wait      string   `toml:"wait"`
	Override  string   `toml:"override"`
	Veto      bool     `toml:"veto"`
	TOTP      bool     `toml:"totp"`
	Networks  []string `toml:"networks"`
	Countries []string `toml:"countries"`
	Anonymous string   `toml:"anonymous"`
	ReasonMin int      `toml:"reason_min"`
	Ticket    string   `toml:"ticket"`
	Forwards  []string `toml:"forwards"`
	Idle      string   `toml:"idle"`
	Drill     bool     `toml:"drill"`
}

type fileTest struct {
	Name       string   `toml:"name"`
	Person     string   `toml:"person"`
	Host       string   `toml:"host"`
	Login      string   `toml:"login"`
	From       []string `toml:"from"`
	Country    string   `toml:"country"`
	Anonymous  string   `toml:"anonymous"`
	Touch      string   `toml:"touch"`
	UV         string   `toml:"uv"`
	Key        string   `toml:"key"`
	GeoAgeDays int      `toml:"geo_age_days"`
	Minutes    int      `toml:"minutes"`
	Reason     string   `toml:"reason"`
	Ticket     string   `toml:"ticket"`
	Forwards   []string `toml:"forwards"`
	Drill      bool     `toml:"drill"`
	Approved   []string `toml:"approved"`
	Refused    []string `toml:"refused"`
	Added      []string `toml:"added"`
	TOTP       string   `toml:"totp"`
	Kind       string   `toml:"kind"`
	Waited     string   `toml:"waited"`
	Expect     string   `toml:"expect"`
	Rule       string   `toml:"rule"`
	Reasons    []string `toml:"reasons"`
}
