package policy

// The types of this file are the TOML as it is written; compile.go turns them into a Policy. Whether a key was
// written at all is asked of the index (positions.go), not of pointers.

type file struct {
	Profile    string                   `toml:"profile"`
	Site       fileSite                 `toml:"site"`
	People     map[string]filePerson    `toml:"people"`
	Networks   map[string][]string      `toml:"networks"`
	Windows    map[string]fileWindow    `toml:"windows"`
	OnCall     map[string]fileRoster    `toml:"oncall"`
	Failures   map[string]fileFailure   `toml:"failures"`
	Always     fileAlways               `toml:"always"`
	Enrolment  fileEnrolment            `toml:"enrolment"`
	Jumps      map[string]fileJump      `toml:"jumps"`
	Vias       map[string]fileVia       `toml:"vias"`
	HostGroups map[string]fileHostGroup `toml:"host_groups"`
	Hosts      map[string]fileHost      `toml:"hosts"`
	Rules      []fileRule               `toml:"rule"`
	Tests      []fileTest               `toml:"test"`
}

type fileSite struct {
	Name      string   `toml:"name"`
	Owners    []string `toml:"owners"`
	Signers   int      `toml:"signers"`
	Operators []string `toml:"operators"`
	Readers   []string `toml:"readers"`
}

type fileWindow struct {
	Zone  string   `toml:"zone"`
	Days  []string `toml:"days"`
	From  string   `toml:"from"`
	To    string   `toml:"to"`
	Dates []string `toml:"dates"`
}

type fileRoster struct {
	File   string `toml:"file"`
	MaxAge string `toml:"max_age"`
}

type fileFailure struct {
	Why string `toml:"why"`
}

type fileHostGroup struct {
	Import bool `toml:"import"`
}

type filePerson struct {
	Groups  []string `toml:"groups"`
	Contact string   `toml:"contact"`
}

type fileAlways struct {
	UV            bool     `toml:"uv"`
	ReasonMin     int      `toml:"reason_min"`
	Networks      []string `toml:"networks"`
	DenyNetworks  []string `toml:"deny_networks"`
	Countries     []string `toml:"countries"`
	DenyCountries []string `toml:"deny_countries"`
	Subdivisions  []string `toml:"subdivisions"`
	ASNs          []int    `toml:"asns"`
	DenyASNs      []int    `toml:"deny_asns"`
	Anonymous     string   `toml:"anonymous"`
	Trusted       []string `toml:"trusted"`
	GeoUnknown    string   `toml:"geo_unknown"`
	SecondCountry string   `toml:"second_country"`
	Severities    []string `toml:"severities"`
	Failure       string   `toml:"failure"`
	MaxGrants     int      `toml:"max_grants"`
	GeoMaxAgeDays int      `toml:"geo_max_age_days"`
	MaxMinutes    int      `toml:"max_minutes"`
	Grace         string   `toml:"grace"`
	Idle          string   `toml:"idle"`
	Budget        string   `toml:"budget"`
	ShowWatchers  bool     `toml:"show_watchers"`
	RetainDays    int      `toml:"retain_days"`
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

type fileVia struct {
	Kind     string   `toml:"kind"`
	Address  []string `toml:"address"`
	Login    string   `toml:"login"`
	HostKeys []string `toml:"host_keys"`
	HostCA   []string `toml:"host_ca"`
	Source   []string `toml:"source"`
}

type fileHost struct {
	Address    []string `toml:"address"`
	Via        string   `toml:"via"`
	HostKeys   []string `toml:"host_keys"`
	HostCA     []string `toml:"host_ca"`
	Groups     []string `toml:"groups"`
	ClockSlack string   `toml:"clock_slack"`
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

	DenyNetworks  []string `toml:"deny_networks"`
	Countries     []string `toml:"countries"`
	DenyCountries []string `toml:"deny_countries"`
	Subdivisions  []string `toml:"subdivisions"`
	ASNs          []int    `toml:"asns"`
	DenyASNs      []int    `toml:"deny_asns"`
	Anonymous     string   `toml:"anonymous"`

	When       []string `toml:"when"`
	NotWhen    []string `toml:"not_when"`
	OnCall     []string `toml:"oncall"`
	Severities []string `toml:"severities"`
	Failures   []string `toml:"failures"`
	MaxGrants  int      `toml:"max_grants"`

	ReasonMin  int      `toml:"reason_min"`
	Ticket     string   `toml:"ticket"`
	Forwards   []string `toml:"forwards"`
	Idle       string   `toml:"idle"`
	Budget     string   `toml:"budget"`
	WatchedBy  []string `toml:"watched_by"`
	RetainDays int      `toml:"retain_days"`
	LegalHold  bool     `toml:"legal_hold"`
	Drill      bool     `toml:"drill"`
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

	Subdivision string         `toml:"subdivision"`
	ASN         int            `toml:"asn"`
	Time        string         `toml:"time"`
	OnCall      []string       `toml:"oncall"`
	Severity    string         `toml:"severity"`
	Failure     string         `toml:"failure"`
	Live        []fileTestLive `toml:"live"`
	RuleLive    int            `toml:"rule_live"`

	Minutes  int      `toml:"minutes"`
	Reason   string   `toml:"reason"`
	Ticket   string   `toml:"ticket"`
	Forwards []string `toml:"forwards"`
	Drill    bool     `toml:"drill"`
	Approved []string `toml:"approved"`
	Refused  []string `toml:"refused"`
	Added    []string `toml:"added"`
	TOTP     string   `toml:"totp"`
	Kind     string   `toml:"kind"`
	Waited   string   `toml:"waited"`
	Expect   string   `toml:"expect"`
	Rule     string   `toml:"rule"`
	Reasons  []string `toml:"reasons"`
}

// fileTestLive is a grant of the person that is alive while the test's request is judged.
type fileTestLive struct {
	Rule    string   `toml:"rule"`
	From    []string `toml:"from"`
	Country string   `toml:"country"`
}
