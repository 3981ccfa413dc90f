/** What VS Code starts: the parts, and the commands that reach them. */

import * as vscode from "vscode";
import type { Middleware } from "vscode-languageclient/node";
import { diagnose, why } from "./diagnose.ts";
import { switchModel } from "./models.ts";
import { toggle, toggleLanguage } from "./off.ts";
import { Offers } from "./offers.ts";
import { restartEngineRequest } from "./protocol.ts";
import { Server, type View } from "./server.ts";
import { SECTION, SettingsReader } from "./settings.ts";
import { StatusBar } from "./statusbar.ts";
import { agree } from "./surroundings.ts";

let server: Server | undefined;

export function activate(context: vscode.ExtensionContext): void {
  const log = vscode.window.createOutputChannel("midfill", { log: true });
  const settings = new SettingsReader(context.extension);
  const middleware: Middleware = { provideInlineCompletionItems: (...asked) => offers.provide(...asked) };
  const started = new Server(settings, log, middleware, context.globalState);
  const offers = new Offers(started);
  server = started;
  const commands = commandsOf(started, settings, offers, log);
  context.subscriptions.push(
    log,
    offers,
    started,
    new StatusBar(started),
    started.onDidChange((view) => void offerFix(view, commands, context.globalState)),
    ...Object.entries(commands).map(([name, run]) => vscode.commands.registerCommand(`midfill.${name}`, run)),
    vscode.workspace.onDidGrantWorkspaceTrust(() => restartIfMissing(started)),
    vscode.workspace.onDidChangeWorkspaceFolders(() => restartIfMissing(started)),
    vscode.workspace.onDidChangeConfiguration((event) => {
      if (settings.needsRestart(event)) {
        void started.restart();
      } else if (event.affectsConfiguration(SECTION)) {
        void started.settingsChanged();
      }
    }),
  );
  // Not waited for: an editor window must not wait for a server, nor for an answer to a question about one.
  void started.restart();
}

export async function deactivate(): Promise<void> {
  await server?.stop();
}

type Commands = Readonly<Record<string, () => unknown>>;

function commandsOf(started: Server, settings: SettingsReader, offers: Offers, log: vscode.LogOutputChannel): Commands {
  const builtin = (name: string) => () => vscode.commands.executeCommand(`editor.action.inlineSuggest.${name}`);
  return {
    toggle,
    toggleLanguage,
    switchModel,
    trigger: builtin("trigger"),
    next: builtin("showNext"),
    previous: builtin("showPrevious"),
    acceptWord: () => offers.acceptPart("acceptNextWord"),
    acceptLine: () => offers.acceptPart("acceptNextLine"),
    dismiss: () => offers.dismiss(),
    restart: () => started.restart(),
    restartEngine: () => started.client?.sendRequest(restartEngineRequest, {}),
    showLog: () => log.show(),
    why: () => why(started),
    diagnose: () => diagnose(started, settings),
    menu,
  };
}

function restartIfMissing(started: Server): void {
  if (started.view.life === "missing") {
    void started.restart();
  }
}

async function menu(): Promise<void> {
  const choices = [
    { label: "Turn on or off", command: "toggle" },
    { label: "Turn on or off in this language", command: "toggleLanguage" },
    { label: "Switch model…", command: "switchModel" },
    { label: "Why is there no suggestion?", command: "why" },
    { label: "Restart server", command: "restart" },
    { label: "Restart engine", command: "restartEngine" },
    { label: "Show log", command: "showLog" },
    { label: "Diagnose", command: "diagnose" },
    { label: "Settings", command: "settings" },
  ];
  const choice = await vscode.window.showQuickPick(choices, { title: "midfill" });
  if (choice?.command === "settings") {
    await openSettings(SECTION);
  } else if (choice !== undefined) {
    await vscode.commands.executeCommand(`midfill.${choice.command}`);
  }
}

/** Says what is wrong where a person has to do something, and offers to. */
async function offerFix({ life, discovery, problem, isFinal }: View, commands: Commands, memory: vscode.Memento): Promise<void> {
  const say = vscode.window.showErrorMessage;
  if (life === "missing" && discovery?.askFor !== undefined) {
    const question = `midfill: ${discovery.askFor} lies in this workspace. Run it here, now and from now on?`;
    const choice = await vscode.window.showWarningMessage(question, "Run It", "Set Its Path");
    if (choice === "Run It") {
      await agree(discovery.askFor, memory);
      await commands["restart"]?.();
    } else if (choice === "Set Its Path") {
      await openSettings(`${SECTION}.path`);
    }
  } else if (life === "missing") {
    const choice = await say(`midfill: ${discovery?.problem ?? ""}`, "How to Install", "Set Its Path", "Look Again");
    if (choice === "How to Install") {
      await vscode.commands.executeCommand("workbench.action.openWalkthrough", "midfill.midfill#start", false);
    } else if (choice === "Set Its Path") {
      await openSettings(`${SECTION}.path`);
    } else if (choice === "Look Again") {
      await commands["restart"]?.();
    }
  } else if (life === "failed" && isFinal) {
    const message = `midfill: the server keeps failing: ${problem ?? "unknown"}`;
    const choice = await say(message, ...(["Show Log", "Diagnose", "Restart"] as const));
    if (choice !== undefined) {
      await commands[{ "Show Log": "showLog", Diagnose: "diagnose", Restart: "restart" }[choice]]?.();
    }
  }
}

async function openSettings(query: string): Promise<void> {
  await vscode.commands.executeCommand("workbench.action.openSettings", query);
}
