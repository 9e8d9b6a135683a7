"""Fail if a type checker can't tell the type of something a user can import.

Reads what pyright says about the installed package. Types it infers are good enough;
types it does not know reach the user as unknown and are not.
"""

import json
import subprocess
import sys


def main() -> int:
    """Ask pyright and print the symbols whose type it does not know."""
    command = ["pyright", "--verifytypes", "fastrpc", "--ignoreexternal", "--outputjson"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    report = json.loads(result.stdout)["typeCompleteness"]
    counts = report["exportedSymbolCounts"]
    known, total = counts["withKnownType"], sum(counts.values())
    print(f"{total} public symbols, {known} with a declared type")
    for symbol in report["symbols"]:
        if symbol["isExported"] and not (symbol["isTypeKnown"] or symbol["isTypeAmbiguous"]):
            print(f"type unknown: {symbol['name']}")
    if total == 0:
        print("pyright found nothing: is the package installed where it looks?")
    return int(total == 0 or counts["withUnknownType"] > 0)


sys.exit(main())
