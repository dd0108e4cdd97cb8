# Says which artifact or object a denial is about.
package lib.location

of(item) := item.path if item.path != ""

of(item) := "an entry without path" if not has_path(item)

has_path(item) if item.path != ""
