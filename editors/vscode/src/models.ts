/** Choosing the model. Nothing is downloaded: a model that is not there is named, with the command that gets it. */

import * as vscode from "vscode";
import { SECTION } from "./settings.ts";

interface Choice extends vscode.QuickPickItem {
  readonly model?: string;
  readonly ask?: "folder" | "name";
}

const CHOICES: readonly Choice[] = [
  { label: "shipped", model: "shipped", description: "small, Python, needs no download" },
  { label: "bigcode/tiny_starcoder_py", model: "bigcode/tiny_starcoder_py", description: "164M, Python, 0.3 GB" },
  { label: "bigcode/gpt_bigcode-santacoder", model: "bigcode/gpt_bigcode-santacoder", description: "1.1B, 2.2 GB" },
  { label: "bigcode/starcoderbase-1b", model: "bigcode/starcoderbase-1b", description: "1.1B, 2.3 GB" },
  { label: "bigcode/starcoderbase-3b", model: "bigcode/starcoderbase-3b", description: "3.0B, 6.1 GB" },
  { label: "bigcode/starcoderbase-7b", model: "bigcode/starcoderbase-7b", description: "7.3B, 14.7 GB" },
  { label: "bigcode/starcoder", model: "bigcode/starcoder", description: "15.5B, 31 GB" },
  { label: "$(folder) A folder…", ask: "folder", description: "with config.json, tokenizer.json, model.safetensors" },
  { label: "$(edit) Another name…", ask: "name", description: "of a model that was downloaded" },
];

export async function switchModel(): Promise<void> {
  const now = vscode.workspace.getConfiguration(SECTION).get<string>("model", "shipped");
  const placeHolder = `Now: ${now}. Others are downloaded once, by \`midfill models pull NAME\`.`;
  const choice = await vscode.window.showQuickPick(CHOICES, { title: "midfill: model", placeHolder });
  const model = choice?.model ?? (await asked(choice?.ask, now));
  if (model !== undefined && model !== "") {
    // The server is started anew by the change of the setting.
    await vscode.workspace.getConfiguration(SECTION).update("model", model, vscode.ConfigurationTarget.Global);
  }
}

async function asked(what: Choice["ask"], now: string): Promise<string | undefined> {
  switch (what) {
    case "folder": {
      const folders = await vscode.window.showOpenDialog({ canSelectFolders: true, canSelectFiles: false });
      return folders?.[0]?.fsPath;
    }
    case "name":
      return vscode.window.showInputBox({ title: "midfill: model", prompt: "Name or folder of a model", value: now });
    case undefined:
      return undefined;
  }
}
