"""Train, search and compare: `python main.py -m MambaRec -d demo`. docs/guides/ shows what else it can do."""

import sys

if __name__ == "__main__":
    from mambarec.base.environment import check_environment

    check_environment()
    from mambarec.base.stopping import stop

    stop.listen()  # before what takes long to import
    from mambarec.cli.train import main

    sys.exit(main(sys.argv[1:]))
