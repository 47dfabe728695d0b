// Package policy decides who may break the glass: Decide(policy, request, facts) → decision.
//
// # Promises
//
// To the operator who reads the file at 3 a.m.: what is written is what is enforced. A key that nothing enforces is
// not accepted; an unknown key, person, group, host, network, country or rule is refused when the file is loaded, with its line
// and a caret; a policy whose own [[test]] blocks fail is refused. The order of people, hosts, jumps and networks in
// the file never matters. Rules are tried from top to bottom and the first one whose conditions all hold decides,
// whether it allows or asks for approvals; a later rule is never consulted, and nothing is added up over rules.
// First match also means that a condition which does not hold hands the request on, and that what is unknown does not hold: a rule that asks
// people from Brazil, before one that asks nobody, is skipped while no geo database answers. Order rules from the one that asks least
// under the most conditions to the one that asks most under the fewest: what is lost then makes a request ask more. Check refuses the other order
// (laxer.go) where it finds, by deciding, that a lost fact makes a later rule give more.
//
// To the CA: Decide is pure. It reads no clock, network or disk, keeps nothing, and answers the same for the same
// arguments for ever, so that a decision can be replayed from its ledger entry. There is one evaluator: Decide,
// DecideSession, Explain and Test all run it (an evaluator for each door is how doors come to disagree).
//
// To everybody: deny by default. A fact is yes, no or unknown, unknown is the zero value and counts as the bad case:
// taking a fact away never turns a deny into an allow. Within a rule that is the evaluator's; between rules, the order's that Check looks at.
//
// # The file
//
// TOML, in this order by custom. Names are [a-z_0-9][a-z0-9._-]*. In every list of people "@oncall" is the group
// oncall and "alice" the person; in a rule's hosts "@web" is a group, "web01" a host, "web*" every host whose name
// fits and "*" every host. People's groups and hosts' groups are two name spaces; a group exists as soon as one entry lists it.
//
//	profile = "production"        # or "demo"; fixed at init
//
//	[site]                        # lists of people or @groups
//	name      = "example"         # goes into the CA's origin
//	owners    = ["alice", "bob"]  # sign policies and successions
//	signers   = 2                 # how many of them the next policy takes; default 2, with one owner or in a demo 1
//	operators = ["@ops"]          # invite, join, revoke, import
//	readers   = ["@reviewers"]    # whose age recipients open recordings; none, no session
//
//	[people.alice]
//	groups  = ["oncall"]
//	contact = "+49 30 1234"       # shown to people only
//
//	[networks]
//	office = ["198.51.100.0/24", "2001:db8:1::/48"]
//
//	[windows.office-hours]        # see Window for midnight and for the changes of the clock
//	zone = "Europe/Berlin"        # of the IANA database that is part of the program
//	days = ["mon-fri"]            # or "sat", "mon,wed"; absent: every day
//	from = "08:00"                # both or neither; from after to passes midnight
//	to   = "18:00"                # not included; "24:00" is the day's end
//	dates = ["2026-12-24..2026-12-26", "2027-01-01"]  # absent: every date
//
//	[oncall.sre]                  # see package oncall for the file
//	file = "oncall/sre.txt"       # in the CA's directory; no part of the policy's SHA-256
//	max_age = "24h"               # an older file knows nobody
//
//	[failures.sso-down]           # what a request may declare to be down
//	why = "The single sign-on answers nobody."
//
//	[always]                      # demanded of everybody, before any rule; a touch always is
//	uv = true                     # PIN or biometric
//	reason_min = 20               # characters
//	countries = ["DE", "GB"]      # ISO 3166-1 alpha-2; absent: anywhere. deny_countries: never from there
//	subdivisions = ["GB-ENG"]     # ISO 3166-2: of a country that has some here, only these parts
//	deny_asns = [64666]           # never from these autonomous systems. asns: only from these
//	anonymous = "deny"            # VPN, Tor, proxy, hosting networks; "allow" does not look
//	trusted = ["office"]          # pass all that the geo databases are asked
//	geo_unknown = "deny"          # what they can't tell; "ask" wants an approval more instead
//	second_country = "ask"        # a grant of the person is alive that came from elsewhere: an approval more; "deny", "allow"
//	deny_networks = ["blocked"]   # beats everything, trusted too
//	geo_max_age_days = 45         # an older database knows nothing
//	max_minutes = 60              # no rule may give more
//	severities = ["sev1", "sev2"] # that a request may declare; absent: any word
//	failure = "required"          # a request has to declare one of [failures]; "optional" if absent
//	max_grants = 5                # of one person at once
//	grace = "30m"                 # how long sessions go on without the CA's heartbeat
//	idle = "15m"                  # a session without input or output ends
//	budget = "16 GiB"             # what a session may carry, both ways together; each extension brings as much again
//	show_watchers = false         # the person isn't told who watches; by default they are
//	retain_days = 400             # for so long nobody can delete a recording (Object Lock); the store's own setting is the least
//
//	[jumps.jump-a]
//	address = ["203.0.113.10:22"] # where people reach it
//	source  = ["10.0.0.2/32"]     # as hosts see it; absent: the addresses' IPs
//
//	[vias.bastion1]               # for hosts that the jump has no way to: a machine that passes its connections on, and sees nothing of them
//	kind    = "ssh"               # or "socks5", or "http" (CONNECT), which have address and source only
//	address = ["10.0.0.9:22"]
//	login   = "jump"              # the jump's account there; via:LOGIN@VIA is what it is let in by
//	host_keys = ["ssh-ed25519 AAAA…"]     # or host_ca
//	source  = ["10.0.5.1/32"]     # as the hosts behind it see it: single addresses
//
//	[hosts.web01]
//	address = ["10.0.0.5:22"]
//	host_keys = ["ssh-ed25519 AAAA…"]     # or host_ca = [...]; there is no trust on first use
//	groups = ["web"]
//	clock_slack = "20m"           # how far its clock may be off, 5m (where nothing is said) to 12h: its session certificates reach so far
//	via = "bastion1"              # reached through it; "direct" is by the jump itself, whatever a pattern says
//
//	[hosts."lb*"]                 # at most one '*'
//	address = ["{host}.example.net:22"]   # {host} is the name asked for; DNS stands in the path only here
//	host_ca = ["ssh-ed25519 AAAA…"]
//
//	[[rule]]
//	name = "oncall-web"
//	why  = "On-call may enter web servers alone, briefly."
//	who = ["@oncall"]
//	hosts = ["@web", "lb*"]
//	logins = ["root"]
//	minutes = 30                  # client certificate, grant and sessions end with it
//	approvals = 1                 # distinct approvers, never the requester; default 0
//	approvers = ["@leads"]
//	wait = "30m"                  # how long a request waits for them
//	networks = ["office"]         # only from these
//	countries = ["DE"]            # only from these; trusted networks pass
//	anonymous = "deny"            # here, even if [always] does not look
//	when = ["office-hours"]       # one of these windows is open
//	not_when = ["freeze"]         # none of these is
//	oncall = ["sre"]              # on call by one of these lists; who has to name the person as well
//	severities = ["sev1"]         # one of these is declared
//	failures = ["sso-down"]       # one of these is declared
//	max_grants = 3                # on this rule at once, anybody's
//	reason_min = 40               # longer than [always] wants
//	ticket = "INC-[0-9]+"         # regular expression for the whole ticket
//	forwards = ["local db01:5432"]
//	idle = "5m"
//	budget = "512 MiB"
//	watched_by = ["@leads"]       # input is held while none of these, a reader and not the person, watches; the rule's own override goes ahead without
//	retain_days = 2000            # longer than [always] wants
//	legal_hold = true             # its recordings stay until the bucket's owner releases them, however old they are
//	drill = true                  # answers drills only; other rules answer drills and real requests alike
//
//	[[test]]
//	name = "alice enters web01 from the office"
//	person = "alice"
//	host = "web01"
//	login = "root"
//	from = ["198.51.100.7"]
//	country = "DE"                # absent: unknown; so are subdivision and asn
//	anonymous = "no"              # absent: unknown
//	expect = "allow"              # "ask", or "deny" with reasons = ["country_unknown"]
//	rule = "oncall-web"
//
// A test may also set touch, uv ("yes", "no", "unknown"; yes if absent), key (a KeyState; live if absent),
// geo_age_days, minutes, reason (long enough if absent), ticket, forwards, drill and approved (people), time (RFC 3339), severity,
// failure, oncall (the lists by which the person is on call; absent: all lists are unknown), live (the person's grants that are alive:
// `[{ rule = "oncall-web", from = ["203.0.113.9"], country = "DE" }]`) and rule_live (how many others are, on each rule).
//
// When, on-call lists and declarations are asked again whenever a session opens: after its window has closed, or its holder's turn is over, a
// grant opens no more sessions. Those that are open go on to the grant's end. Numbers of grants are asked when one is given or extended.
//
// A setting of a host comes from the entry with the most fixed text that has it: its own entry first, then the
// longest pattern that fits, and so on; address and groups each by themselves, host_keys and host_ca together. Nothing
// is added up, so `groups = []` in a host's own entry takes it out of its pattern's groups. Two patterns that could
// fit one name with equally much fixed text are refused. A name that ends up without address or keys is unknown.
package policy
