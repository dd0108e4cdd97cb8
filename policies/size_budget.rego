# Denies an artifact that is larger than its budget. A budget of 0 is none.
package sluice.builtin.size_budget

import data.lib.location

deny contains {
	"message": sprintf("%v bytes, %v over the budget of %v", [
		artifact.size_bytes,
		artifact.size_bytes - artifact.budget_bytes,
		artifact.budget_bytes,
	]),
	"input": location.of(artifact),
	"fix": "make the binary smaller (dependencies, embedded files), or raise the size budget",
} if {
	some artifact in input.artifacts
	measured(artifact)
	artifact.budget_bytes > 0
	artifact.size_bytes > artifact.budget_bytes
}

deny contains {
	"message": "the size or its budget is not known",
	"input": location.of(artifact),
	"fix": "give size_bytes (greater than 0) and budget_bytes (0 for no budget)",
} if {
	some artifact in input.artifacts
	not measured(artifact)
}

measured(artifact) if {
	is_number(artifact.size_bytes) # text compares greater than every number
	is_number(artifact.budget_bytes)
	artifact.size_bytes > 0
	artifact.budget_bytes >= 0
}
