/** What VS Code, the machine and the Python extension say about where a server may be. */

import { accessSync, constants, realpathSync, statSync } from "node:fs";
import { homedir } from "node:os";
import { dirname } from "node:path";
import * as vscode from "vscode";
import type { Surroundings } from "./discovery.ts";

const AGREED = "agreed";

/** The part of the Python extension's exports that is used. */
interface PythonExtension {
  readonly environments?: {
    getActiveEnvironmentPath(resource?: vscode.Uri): { readonly path: string };
  };
}

export async function surroundings(setting: string | undefined, memory: vscode.Memento): Promise<Surroundings> {
  const folders = (vscode.workspace.workspaceFolders ?? []).filter((folder) => folder.uri.scheme === "file");
  return {
    setting,
    pathVariable: process.env["PATH"] ?? "",
    home: homedir(),
    isWindows: process.platform === "win32",
    isTrusted: vscode.workspace.isTrusted,
    folders: folders.flatMap((folder) => [folder.uri.fsPath, ...(realPath(folder.uri.fsPath) ?? [])]),
    selected: await selectedEnvironments(folders),
    program,
    isAgreed: (file) => memory.get<string[]>(AGREED, []).includes(file),
  };
}

function realPath(folder: string): [string] | undefined {
  try {
    return [realpathSync(folder)];
  } catch {
    return undefined;
  }
}

function program(file: string): string | undefined {
  try {
    accessSync(file, constants.X_OK);
    return statSync(file).isFile() ? realpathSync(file) : undefined;
  } catch {
    return undefined;
  }
}

/** Asks the Python extension where it is there; it is not waited for in a workspace whose settings can't be trusted. */
async function selectedEnvironments(folders: readonly vscode.WorkspaceFolder[]): Promise<string[]> {
  const python = vscode.extensions.getExtension<PythonExtension>("ms-python.python");
  if (python === undefined || !vscode.workspace.isTrusted) {
    return [];
  }
  try {
    const { environments } = await python.activate();
    const paths = folders.map((folder) => environments?.getActiveEnvironmentPath(folder.uri).path);
    return paths.flatMap((each) => (each === undefined || each === "" ? [] : [dirname(each)]));
  } catch {
    return []; // Another extension's trouble is not ours to report.
  }
}

/** Remembers that the user lets a program of a workspace's run. */
export async function agree(file: string, memory: vscode.Memento): Promise<void> {
  await memory.update(AGREED, [...memory.get<string[]>(AGREED, []), file]);
}
