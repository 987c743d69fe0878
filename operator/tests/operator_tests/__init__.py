"""A package, or pytest would name these tests `operator.tests` and put that in place of the standard library's operator."""
