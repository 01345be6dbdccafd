"""Make data sets: `python prepare.py table --interactions ratings.csv …`. docs/guides/ shows what else it can do."""

import sys

if __name__ == "__main__":
    from mambarec.base.environment import check_environment

    check_environment()
    from mambarec.cli.prepare import main

    sys.exit(main(sys.argv[1:]))
