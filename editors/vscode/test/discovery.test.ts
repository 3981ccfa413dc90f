/** Which server is chosen, and what a workspace can't do about it. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { discover, type Surroundings } from "../src/discovery.ts";

interface Machine extends Partial<Omit<Surroundings, "program" | "isAgreed">> {
  /** Files that can be run, each with its real path where that is another. */
  readonly programs?: Readonly<Record<string, string>>;
  readonly agreesTo?: readonly string[];
}

function same(...files: string[]): Record<string, string> {
  return Object.fromEntries(files.map((file) => [file, file]));
}

function found(machine: Machine): string {
  const { programs = {}, agreesTo = [], ...rest } = machine;
  const discovery = discover({
    setting: undefined,
    pathVariable: "/usr/bin:/usr/local/bin",
    home: "/home/me",
    isWindows: false,
    isTrusted: true,
    folders: ["/work/repo"],
    selected: [],
    program: (file) => programs[file],
    isAgreed: (file) => agreesTo.includes(file),
    ...rest,
  });
  return discovery.found ? `${discovery.found.command} by ${discovery.found.why}` : (discovery.problem ?? "");
}

const NONE = "there is no midfill on PATH or in the workspace's environment";
const LOCAL = "/work/repo/.venv/bin/midfill";

const CASES: readonly [name: string, machine: Machine, expected: string][] = [
  [
    "the setting comes before PATH",
    { setting: "/opt/midfill", programs: same("/opt/midfill", "/usr/bin/midfill") },
    "/opt/midfill by setting midfill.path",
  ],
  [
    "a setting in the home folder",
    { setting: "~/bin/midfill", programs: same("/home/me/bin/midfill") },
    "/home/me/bin/midfill by setting midfill.path",
  ],
  [
    "a setting that names a program on PATH",
    { setting: "midfill-dev", programs: same("/usr/local/bin/midfill-dev") },
    "/usr/local/bin/midfill-dev by setting midfill.path",
  ],
  [
    "a wrong setting is said, not passed over",
    { setting: "/opt/gone", programs: same("/usr/bin/midfill") },
    'setting midfill.path is "/opt/gone", which is not a program',
  ],
  [
    "a relative setting could mean a file of the workspace",
    { setting: ".venv/bin/midfill", programs: same(".venv/bin/midfill") },
    'setting midfill.path is ".venv/bin/midfill", which must be absolute, or a name on PATH',
  ],
  ["the first on PATH", { programs: same("/usr/local/bin/midfill") }, "/usr/local/bin/midfill by PATH"],
  [
    "PATH comes before the workspace",
    { programs: same("/usr/bin/midfill", LOCAL), agreesTo: [LOCAL] },
    "/usr/bin/midfill by PATH",
  ],
  ["a relative entry of PATH is not looked at", { pathVariable: ".:bin", programs: same("midfill", "bin/midfill") }, NONE],
  [
    "the workspace's environment, agreed to",
    { programs: same(LOCAL), agreesTo: [LOCAL] },
    `${LOCAL} by the workspace's .venv`,
  ],
  ["the workspace's environment, not agreed to", { programs: same(LOCAL) }, `${LOCAL} lies in the workspace and was not agreed to`],
  [
    "a workspace that is not trusted, whatever was agreed to",
    { isTrusted: false, programs: same(LOCAL), agreesTo: [LOCAL] },
    NONE,
  ],
  [
    "an entry of PATH inside the workspace is the workspace's",
    { pathVariable: "/work/repo/.venv/bin", isTrusted: false, programs: same(LOCAL) },
    NONE,
  ],
  [
    "a link on PATH into the workspace is the workspace's",
    { programs: { "/usr/bin/midfill": "/work/repo/evil" } },
    "/usr/bin/midfill lies in the workspace and was not agreed to",
  ],
  [
    "a folder whose name only begins alike is outside",
    { pathVariable: "/work/repo-tools/bin", programs: same("/work/repo-tools/bin/midfill") },
    "/work/repo-tools/bin/midfill by PATH",
  ],
  [
    "the selected environment comes before .venv",
    { selected: ["/envs/a/bin"], programs: same("/envs/a/bin/midfill", LOCAL), agreesTo: [LOCAL] },
    "/envs/a/bin/midfill by the selected Python environment",
  ],
  ["nothing at all", {}, NONE],
];

for (const [name, machine, expected] of CASES) {
  void test(name, () => assert.equal(found(machine), expected));
}
