"""A package, or pytest would name these tests `operator.tests` and lose the operator of the standard library."""
