"""Which licences let a package or a file into the corpus."""

from __future__ import annotations

from email.message import Message

import pytest

from engine.training.licences import file_verdict, is_permissive, package_verdict

EXPRESSIONS = [
    ("MIT", True),
    ("Apache-2.0 OR GPL-3.0-only", True),
    ("Apache-2.0 AND GPL-3.0-only", False),
    ("MIT AND (Apache-2.0 OR GPL-2.0-only)", True),
    ("(MIT AND GPL-2.0-only) OR BSD-3-Clause", True),
    ("MPL-2.0 AND (Apache-2.0 OR MIT)", False),
    ("MIT OR GPL-2.0-only AND GPL-3.0-only", True),  # AND binds tighter
    ("Apache-2.0 WITH LLVM-exception", True),
    ("GPL-2.0-only WITH Classpath-exception-2.0", False),
    ("LicenseRef-Proprietary", False),
    ("", False),
    ("MIT AND", False),
    ("MIT WITH", False),
    ("(MIT", False),
    ("MIT MIT", False),
    ("()", False),
]

BSD = "License :: OSI Approved :: BSD License"
GPL = "License :: OSI Approved :: GNU General Public License v3 (GPLv3)"
MIT = "License :: OSI Approved :: MIT License"
MIT_TEXT = "Copyright 2020 Somebody\n\nPermission is hereby granted, free of charge, to any person obtaining a copy of …"

PACKAGES = [
    ("the expression wins over the text", {"License-Expression": "MIT", "License": "GPL"}, True),
    ("the expression wins over classifiers", {"License-Expression": "GPL-3.0-only", "Classifier": [MIT]}, False),
    ("an alias", {"License": "Apache License, Version 2.0"}, True),
    ("alternatives in free text", {"License": "MIT or GPL-3.0-only"}, True),
    ("a name that is not known", {"License": "MIT or Beerware"}, True),
    ("a name that is not known, alone", {"License": "Beerware"}, False),
    ("alternatives that are both fine", {"License": "BSD 3-Clause OR Apache-2.0"}, True),
    ("a list is a conjunction", {"License": "MIT, BSD"}, True),
    ("a full text", {"License": MIT_TEXT}, True),
    ("a classifier alone", {"Classifier": [BSD]}, True),
    ("two classifiers are a conjunction", {"Classifier": [BSD, GPL]}, False),
    ("text against classifier", {"License": "GPLv3", "Classifier": [MIT]}, False),
    (
        "a long text leaves it to the classifier",
        {"License": "Copyright …\n" * 9 + "GPL'd library", "Classifier": [BSD]},
        True,
    ),
    ("a file name leaves it to the classifier", {"License": "LICENSE.txt", "Classifier": [BSD]}, True),
    ("UNKNOWN leaves it to the classifier", {"License": "UNKNOWN", "Classifier": [MIT]}, True),
    ("the bare word OSI says nothing", {"Classifier": ["License :: OSI Approved"]}, False),
    ("proprietary", {"Classifier": ["License :: Other/Proprietary License"]}, False),
    ("nothing stated", {}, False),
]

HEADS = [
    ("# SPDX-License-Identifier: Apache-2.0\nimport os\n", True),
    ("# SPDX-License-Identifier: GPL-2.0-or-later\nimport os\n", False),
    ("# SPDX-License-Identifier: GPL-2.0-or-later OR MIT\n", True),
    ("# This program is free software under the GNU General Public License.\n", False),
    ("# GNU Lesser General Public License\n", False),
    ("# Subject to the terms of the Mozilla Public License\n", False),
    ("# All rights reserved. BSD license.\n", True),
    ("import os\n", True),
    ("import os\n" * 1000 + "# GPL\n", True),  # far below the head: somebody's prose
]


@pytest.mark.parametrize(("expression", "allowed"), EXPRESSIONS)
def test_spdx_expression(expression: str, allowed: bool) -> None:
    assert is_permissive(expression) is allowed


@pytest.mark.parametrize(("why", "fields", "allowed"), PACKAGES, ids=[case[0] for case in PACKAGES])
def test_package(why: str, fields: dict[str, str | list[str]], allowed: bool) -> None:
    metadata = Message()
    for name, value in fields.items():
        for line in [value] if isinstance(value, str) else value:
            metadata[name] = line
    assert package_verdict(metadata).allowed is allowed


@pytest.mark.parametrize(("head", "allowed"), HEADS)
def test_file_head(head: str, allowed: bool) -> None:
    assert file_verdict(head).allowed is allowed
