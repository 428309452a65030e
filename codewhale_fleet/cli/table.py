"""The frequent commands as data, for cli/hot.py. Made by scripts/command-table; do not edit.

A command has arguments (name, takes many, required), options (spelling: name, kind, lowest or
constant, highest) and the defaults of its parameters.
"""

# fmt: off
# ruff: noqa: E501

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

COMMANDS: "dict[str, tuple[Any, Any, Any]]" = {
    'run': (
        (('words', True, False),),
        {
            '--each': ('each', 'str', None, None),
            '--max-workers': ('max_workers', 'int', 1, 128),
            '-j': ('max_workers', 'int', 1, 128),
            '--max-failures': ('max_failures', 'int', 1, None),
            '--name': ('name', 'str', None, None),
            '--label': ('label', 'list', None, None),
            '--only': ('only', 'list', None, None),
            '--detach': ('detach', 'flag', True, None),
            '-d': ('detach', 'flag', True, None),
            '--dry-run': ('dry_run', 'flag', True, None),
            '--allow-unenforced': ('allow_unenforced', 'list', None, None),
            '--dir': ('directory', 'str', None, None),
            '--json': ('json', 'flag', True, None),
            '--quiet': ('quiet', 'flag', True, None),
            '-q': ('quiet', 'flag', True, None),
            '--verbose': ('verbose', 'flag', True, None),
            '-v': ('verbose', 'flag', True, None),
            '--no-color': ('no_color', 'flag', True, None),
        },
        (('words', None), ('each', None), ('max_workers', None), ('max_failures', None), ('name', None), ('label', None), ('only', None), ('detach', False), ('dry_run', False), ('allow_unenforced', None), ('directory', None), ('json', False), ('quiet', False), ('verbose', False), ('no_color', False)),
    ),
    'status': (
        (('run', False, False),),
        {
            '--watch': ('watch', 'flag', True, None),
            '-w': ('watch', 'flag', True, None),
            '--dir': ('directory', 'str', None, None),
            '--json': ('json', 'flag', True, None),
            '--quiet': ('quiet', 'flag', True, None),
            '-q': ('quiet', 'flag', True, None),
            '--verbose': ('verbose', 'flag', True, None),
            '-v': ('verbose', 'flag', True, None),
            '--no-color': ('no_color', 'flag', True, None),
        },
        (('run', None), ('watch', False), ('directory', None), ('json', False), ('quiet', False), ('verbose', False), ('no_color', False)),
    ),
    'inspect': (
        (('id', False, True),),
        {
            '--dir': ('directory', 'str', None, None),
            '--json': ('json', 'flag', True, None),
            '--quiet': ('quiet', 'flag', True, None),
            '-q': ('quiet', 'flag', True, None),
            '--verbose': ('verbose', 'flag', True, None),
            '-v': ('verbose', 'flag', True, None),
            '--no-color': ('no_color', 'flag', True, None),
        },
        (('directory', None), ('json', False), ('quiet', False), ('verbose', False), ('no_color', False)),
    ),
    'logs': (
        (('id', False, True),),
        {
            '--follow': ('follow', 'flag', True, None),
            '-f': ('follow', 'flag', True, None),
            '--attempt': ('attempt', 'int', 1, None),
            '--stderr': ('stderr', 'flag', True, None),
            '--dir': ('directory', 'str', None, None),
            '--json': ('json', 'flag', True, None),
            '--quiet': ('quiet', 'flag', True, None),
            '-q': ('quiet', 'flag', True, None),
            '--verbose': ('verbose', 'flag', True, None),
            '-v': ('verbose', 'flag', True, None),
            '--no-color': ('no_color', 'flag', True, None),
        },
        (('follow', False), ('attempt', None), ('stderr', False), ('directory', None), ('json', False), ('quiet', False), ('verbose', False), ('no_color', False)),
    ),
    'explain': (
        (('id', False, True),),
        {
            '--dir': ('directory', 'str', None, None),
            '--json': ('json', 'flag', True, None),
            '--quiet': ('quiet', 'flag', True, None),
            '-q': ('quiet', 'flag', True, None),
            '--verbose': ('verbose', 'flag', True, None),
            '-v': ('verbose', 'flag', True, None),
            '--no-color': ('no_color', 'flag', True, None),
        },
        (('directory', None), ('json', False), ('quiet', False), ('verbose', False), ('no_color', False)),
    ),
    'receipts': (
        (('run', False, False),),
        {
            '--attempts': ('attempts', 'flag', True, None),
            '--dir': ('directory', 'str', None, None),
            '--json': ('json', 'flag', True, None),
            '--quiet': ('quiet', 'flag', True, None),
            '-q': ('quiet', 'flag', True, None),
            '--verbose': ('verbose', 'flag', True, None),
            '-v': ('verbose', 'flag', True, None),
            '--no-color': ('no_color', 'flag', True, None),
        },
        (('run', '@last'), ('attempts', False), ('directory', None), ('json', False), ('quiet', False), ('verbose', False), ('no_color', False)),
    ),
    'artifacts': (
        (('id', False, True),),
        {
            '--copy-to': ('copy_to', 'str', None, None),
            '--dir': ('directory', 'str', None, None),
            '--json': ('json', 'flag', True, None),
            '--quiet': ('quiet', 'flag', True, None),
            '-q': ('quiet', 'flag', True, None),
            '--verbose': ('verbose', 'flag', True, None),
            '-v': ('verbose', 'flag', True, None),
            '--no-color': ('no_color', 'flag', True, None),
        },
        (('copy_to', None), ('directory', None), ('json', False), ('quiet', False), ('verbose', False), ('no_color', False)),
    ),
    'wait': (
        (('ids', True, True),),
        {
            '--timeout': ('timeout', 'float', 0, None),
            '--dir': ('directory', 'str', None, None),
            '--json': ('json', 'flag', True, None),
            '--quiet': ('quiet', 'flag', True, None),
            '-q': ('quiet', 'flag', True, None),
            '--verbose': ('verbose', 'flag', True, None),
            '-v': ('verbose', 'flag', True, None),
            '--no-color': ('no_color', 'flag', True, None),
        },
        (('timeout', None), ('directory', None), ('json', False), ('quiet', False), ('verbose', False), ('no_color', False)),
    ),
    'resume': (
        (('run', False, True),),
        {
            '--failed': ('failed', 'flag', True, None),
            '--max-workers': ('max_workers', 'int', 1, 128),
            '-j': ('max_workers', 'int', 1, 128),
            '--detach': ('detach', 'flag', True, None),
            '-d': ('detach', 'flag', True, None),
            '--dir': ('directory', 'str', None, None),
            '--json': ('json', 'flag', True, None),
            '--quiet': ('quiet', 'flag', True, None),
            '-q': ('quiet', 'flag', True, None),
            '--verbose': ('verbose', 'flag', True, None),
            '-v': ('verbose', 'flag', True, None),
            '--no-color': ('no_color', 'flag', True, None),
        },
        (('failed', False), ('max_workers', None), ('detach', False), ('directory', None), ('json', False), ('quiet', False), ('verbose', False), ('no_color', False)),
    ),
}
