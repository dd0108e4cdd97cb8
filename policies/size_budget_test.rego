package sluice.builtin.size_budget_test

import data.fixture_test as fixture
import data.sluice.builtin.size_budget

test_within if count(size_budget.deny) == 0 with input as fixture.good

test_exactly if count(size_budget.deny) == 0 with input as fixture.changed("/artifacts/0/size_bytes", 200)

test_over if {
	fixture.messages(size_budget.deny) == {"201 bytes, 1 over the budget of 200"} with input as fixture.changed("/artifacts/0/size_bytes", 201)
}

test_no_budget if count(size_budget.deny) == 0 with input as fixture.changed("/artifacts/0/budget_bytes", 0)

test_unknown[path] if {
	some path in ["/artifacts/0/size_bytes", "/artifacts/0/budget_bytes"]
	count(size_budget.deny) == 1 with input as fixture.without(path)
}

test_negative if count(size_budget.deny) == 1 with input as fixture.changed("/artifacts/0/budget_bytes", -1)

test_text_is_no_size if count(size_budget.deny) > 0 with input as fixture.changed("/artifacts/0/size_bytes", "100")
