"""Use a finished run: `python recommend.py --run ../results/…/ --user 7 12 -k 20`. More: docs/guides/."""

import sys

if __name__ == "__main__":
    from mambarec.base.environment import check_environment

    check_environment()
    from mambarec.cli.recommend import main

    sys.exit(main(sys.argv[1:]))
