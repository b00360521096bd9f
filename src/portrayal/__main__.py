"""`python -m portrayal`."""

import sys

from portrayal.cli import main

sys.argv[0] = "portrayal"  # which a run records
main()
