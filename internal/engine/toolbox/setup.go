package toolbox

import _ "embed"

//go:embed setup.sh
var setup string

// SetupScript is the project's own script that installs tools, a copy of
// tools/setup.sh.
func SetupScript() string { return setup }
