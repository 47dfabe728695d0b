package ca

import "time"

// krlSlack is how much longer than its certificates a revocation stands in the KRL: a host's clock may be behind, and whoever looks at a host on
// the morning after still sees why it refused.
const krlSlack = 24 * time.Hour
