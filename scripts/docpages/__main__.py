"""`scripts/docs`: writes the generated pages, or says which differ; the pages themselves are made elsewhere."""

from __future__ import annotations

import sys

from docpages import costs, pages, pictures


def main(words: list[str]) -> int:
    match words:
        case []:
            for path, text in pages.made().items():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, "utf-8")
                print(path.relative_to(pages.ROOT))
        case ["check"]:
            stale = pages.stale()
            for path in stale:
                print(f"{path.relative_to(pages.ROOT)} is not what the code says; run scripts/docs", file=sys.stderr)
            return 1 if stale else 0
        case ["pictures"]:
            pictures.draw()
        case ["costs"]:
            print(costs.measured())
        case _:
            print("usage: scripts/docs [check|pictures|costs]", file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
