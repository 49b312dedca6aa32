# The commands of the house. `make demo` and `make test` install what they lack, saying what and why first.
SHELL := /bin/bash
.PHONY: demo clean-demo test check bench fmt
