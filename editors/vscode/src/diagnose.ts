/** A report of all that a bug report needs, without any text of the user's. */

import { execFile } from "node:child_process";
import { homedir } from "node:os";
import * as vscode from "vscode";
import { whyOff } from "./off.ts";
import { statsRequest, statusRequest, whyRequest } from "./protocol.ts";
import type { Server } from "./server.ts";
import type { SettingsReader } from "./settings.ts";

const DOCTOR_TIMEOUT_MS = 20_000;

export async function diagnose(server: Server, settings: SettingsReader): Promise<void> {
  const content = await report(server, settings);
  // The walkthrough's first step: VS Code never ticks a step for a context that was true before the page was opened.
  void vscode.commands.executeCommand("setContext", "midfill.diagnosed", server.client !== undefined);
  await vscode.window.showTextDocument(await vscode.workspace.openTextDocument({ language: "markdown", content }));
}

/** Shows why the document that is looked at has no suggestion. */
export async function why(server: Server): Promise<void> {
  const document = vscode.window.activeTextEditor?.document;
  const off = whyOff(document);
  if (off !== undefined || document === undefined) {
    void vscode.window.showInformationMessage(`midfill: ${off ?? "no file is open"}`);
    return;
  }
  const params = { textDocument: { uri: document.uri.toString() } };
  try {
    const answer = await server.client?.sendRequest(whyRequest, params);
    void vscode.window.showInformationMessage(`midfill: ${answer?.about ?? "the server is not running"}`);
  } catch (error) {
    void vscode.window.showWarningMessage(`midfill: the server can't say: ${String(error)}`);
  }
}

async function report(server: Server, settings: SettingsReader): Promise<string> {
  const { view, client } = server;
  const found = view.discovery?.found;
  const active = vscode.window.activeTextEditor?.document;
  const facts = [
    `extension ${settings.version}, VS Code ${vscode.version}, ${process.platform} ${process.arch}`,
    `runs ${vscode.env.remoteName ? `remotely (${vscode.env.remoteName})` : "locally"}, where the files are`,
    `workspace is ${vscode.workspace.isTrusted ? "" : "not "}trusted`,
    `active document: ${active ? `${active.languageId}, scheme ${active.uri.scheme}` : "none"}`,
    `suggestions here: ${whyOff(active) ?? "on"}`,
    `server: ${view.life}${view.problem ? `, ${view.problem}` : ""}`,
    found ? `found: ${found.command}, by ${found.why}` : "found: nothing",
    ...(view.discovery?.looked ?? []).map((line) => `looked at ${line}`),
  ];
  return [
    "# midfill: diagnosis",
    facts.map((fact) => `- ${fact}`).join("\n"),
    "## Settings made in VS Code",
    fenced(json(settings.all())),
    "## Status",
    fenced(json(await attempt(() => client?.sendRequest(statusRequest, {})))),
    "## Counters",
    fenced(json(await attempt(() => client?.sendRequest(statsRequest, {})))),
    "## `midfill doctor`",
    fenced(found ? await doctor(found.command) : "there is no server to ask"),
    "",
  ].join("\n\n");
}

/** A question that fails is an answer too. */
async function attempt(ask: () => Promise<unknown> | undefined): Promise<unknown> {
  try {
    return (await ask()) ?? "the server is not running";
  } catch (error) {
    return String(error);
  }
}

function doctor(command: string): Promise<string> {
  return new Promise((resolve) => {
    execFile(command, ["doctor"], { timeout: DOCTOR_TIMEOUT_MS, cwd: homedir() }, (error, stdout, stderr) =>
      resolve(`${stdout}${error ? `failed: ${error.message}\n${stderr}` : ""}`.trim()));
  });
}

function json(value: unknown): string {
  return JSON.stringify(value, null, 2);
}

function fenced(text: string): string {
  return `\`\`\`\n${text}\n\`\`\``;
}
