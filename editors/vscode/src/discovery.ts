/**
 * Where the server is: the user's setting, then PATH, then the workspace's environment.
 *
 * Free of VS Code, so that it is tested by itself. What lies inside the workspace came with a repository, so it runs
 * only in a trusted workspace, and only after the user has agreed to that very file; a symbolic link that leads
 * there counts as there.
 */

import * as path from "node:path";

export interface Surroundings {
  /** The setting `midfill.path`, which VS Code takes from the user's own settings alone. */
  readonly setting: string | undefined;
  readonly pathVariable: string;
  readonly home: string;
  readonly isWindows: boolean;
  readonly isTrusted: boolean;
  readonly folders: readonly string[];
  /** Folders of programs of the Python environments that were selected for the workspace's folders. */
  readonly selected: readonly string[];
  /** The real path of a file that can be run; undefined where there is none. */
  program(file: string): string | undefined;
  /** Whether the user has agreed that this program of the workspace's may run. */
  isAgreed(file: string): boolean;
}

export interface Found {
  readonly command: string;
  readonly why: string;
}

/** What was found, or why nothing was; `looked` has a line for each place, in order. */
export interface Discovery {
  readonly found?: Found;
  readonly problem?: string;
  /** A program of the workspace's that would run if the user agreed. */
  readonly askFor?: string;
  readonly looked: readonly string[];
}

export function discover(around: Surroundings): Discovery {
  if (around.setting !== undefined && around.setting !== "") {
    return fromSetting(around.setting, around);
  }
  const looked = ["setting midfill.path: not set"];
  let askFor: string | undefined;
  for (const { file, where } of candidates(around)) {
    const real = around.program(file);
    if (real === undefined) {
      looked.push(`${where}: no ${file}`);
      continue;
    }
    const isForeign = around.folders.some((folder) => isInside(folder, file) || isInside(folder, real));
    if (isForeign && !around.isTrusted) {
      looked.push(`${where}: ${file} lies in a workspace that is not trusted`);
    } else if (isForeign && !around.isAgreed(file)) {
      looked.push(`${where}: ${file} lies in the workspace and was not agreed to`);
      askFor ??= file;
    } else {
      looked.push(`${where}: ${file}`);
      return { found: { command: file, why: where }, looked };
    }
  }
  return askFor === undefined
    ? { problem: "there is no midfill on PATH or in the workspace's environment", looked }
    : { problem: `${askFor} lies in the workspace and was not agreed to`, askFor, looked };
}

function fromSetting(setting: string, around: Surroundings): Discovery {
  const where = "setting midfill.path";
  const expanded = setting.startsWith("~/") ? path.join(around.home, setting.slice(2)) : setting;
  const isName = path.basename(expanded) === expanded;
  const files = isName ? onPath(around, expanded) : [expanded];
  const command = files.find((file) => path.isAbsolute(file) && around.program(file) !== undefined);
  if (command !== undefined) {
    return { found: { command, why: where }, looked: [`${where}: ${command}`] };
  }
  const rule = isName || path.isAbsolute(expanded) ? "is not a program" : "must be absolute, or a name on PATH";
  const problem = `${where} is ${JSON.stringify(setting)}, which ${rule}`;
  return { problem, looked: [problem] };
}

function candidates(around: Surroundings): { file: string; where: string }[] {
  const scripts = around.isWindows ? "Scripts" : "bin";
  const inFolder = (folder: string): string[] =>
    programs(path.join(folder, ".venv", scripts), "midfill", around.isWindows);
  return [
    ...onPath(around, "midfill").map((file) => ({ file, where: "PATH" })),
    ...around.selected
      .flatMap((folder) => programs(folder, "midfill", around.isWindows))
      .map((file) => ({ file, where: "the selected Python environment" })),
    ...around.folders.flatMap(inFolder).map((file) => ({ file, where: "the workspace's .venv" })),
  ];
}

/** A relative entry of PATH would follow whatever folder is the current one. */
function onPath(around: Surroundings, name: string): string[] {
  return around.pathVariable
    .split(around.isWindows ? ";" : ":")
    .filter((folder) => path.isAbsolute(folder))
    .flatMap((folder) => programs(folder, name, around.isWindows));
}

function programs(folder: string, name: string, isWindows: boolean): string[] {
  return isWindows && path.extname(name) === "" ? [path.join(folder, `${name}.exe`)] : [path.join(folder, name)];
}

function isInside(folder: string, file: string): boolean {
  const way = path.relative(folder, file);
  return way !== "" && !way.startsWith(`..${path.sep}`) && way !== ".." && !path.isAbsolute(way);
}
