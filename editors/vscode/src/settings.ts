/**
 * The settings as VS Code has them, divided by who may set them.
 *
 * The manifest, generated from the server's own schema, says which are there and which are the user's alone. Those
 * are of scope "machine", which VS Code never takes from a workspace, and reach the server as options of `midfill
 * serve`; the others go over LSP. Only what was set is passed on: a default sent as if it were a choice would
 * override the user's midfill.toml.
 */

import * as vscode from "vscode";

export const SECTION = "midfill";

type Properties = Readonly<Record<string, { readonly scope?: string } | undefined>>;

interface Manifest {
  readonly version: string;
  readonly contributes: { readonly configuration: { readonly properties: Properties } };
}

export class SettingsReader {
  private readonly properties: Properties;
  readonly version: string;

  constructor(extension: vscode.Extension<unknown>) {
    const manifest = extension.packageJSON as Manifest;
    this.version = manifest.version;
    this.properties = manifest.contributes.configuration.properties;
  }

  /** The path of the server, from the user's own settings. */
  get path(): string | undefined {
    return vscode.workspace.getConfiguration(SECTION).inspect<string>("path")?.globalValue;
  }

  /** The arguments after `midfill` that say what the user alone may say. */
  serveArguments(): string[] {
    const options = this.names(true).flatMap((name) => {
      const value = vscode.workspace.getConfiguration(SECTION).inspect<unknown>(name)?.globalValue;
      return value === undefined || value === null ? [] : [`${option(name)}=${String(value)}`];
    });
    return ["serve", ...options];
  }

  /** What was set of the other settings, the nearest to the resource winning. */
  shared(resource?: vscode.Uri): Record<string, unknown> {
    const config = vscode.workspace.getConfiguration(SECTION, resource ?? null);
    const values = this.names(false).map((name): [string, unknown] => {
      const set = config.inspect<unknown>(name);
      return [name, set?.workspaceFolderValue ?? set?.workspaceValue ?? set?.globalValue];
    });
    return Object.fromEntries(values.filter(([, value]) => value !== undefined));
  }

  /** Everything that was set, for a report. */
  all(): Record<string, unknown> {
    return { path: this.path, arguments: this.serveArguments(), ...this.shared() };
  }

  /** Whether a change concerns what the server is started with. */
  needsRestart(event: vscode.ConfigurationChangeEvent): boolean {
    return ["path", ...this.names(true)].some((name) => event.affectsConfiguration(`${SECTION}.${name}`));
  }

  private names(isUserOnly: boolean): string[] {
    return Object.entries(this.properties)
      .filter(([key, property]) => key !== `${SECTION}.path` && (property?.scope === "machine") === isUserOnly)
      .map(([key]) => key.slice(SECTION.length + 1));
  }
}

/** Sets a value where it is set now, or else in the user's settings. */
export async function change(name: string, value: unknown): Promise<void> {
  const config = vscode.workspace.getConfiguration(SECTION);
  const isInWorkspace = config.inspect<unknown>(name)?.workspaceValue !== undefined;
  const target = isInWorkspace ? vscode.ConfigurationTarget.Workspace : vscode.ConfigurationTarget.Global;
  await config.update(name, value, target);
}

/** `n_threads` is `--threads`, `idle_exit_s` is `--idle-exit-s`. */
function option(name: string): string {
  return `--${name.replace(/^n_/, "").replaceAll("_", "-")}`;
}
