/** Which setting keeps suggestions away, and changing it. */

import * as vscode from "vscode";
import { change, SECTION } from "./settings.ts";

const LANGUAGES = "disabled_languages";

/** The setting that turns suggestions off in a document; undefined where none does. */
export function whyOff(document: vscode.TextDocument | undefined): string | undefined {
  if (!isEnabled()) {
    return "midfill.enabled is false";
  }
  if (document === undefined) {
    return undefined;
  }
  if (offLanguages().includes(document.languageId)) {
    return `midfill.${LANGUAGES} has ${document.languageId}`;
  }
  // VS Code asks nobody while this is off, unless the user asks for a suggestion.
  return vscode.workspace.getConfiguration("editor", document).get<boolean>("inlineSuggest.enabled", true)
    ? undefined
    : "editor.inlineSuggest.enabled is false";
}

export async function toggle(): Promise<void> {
  await change("enabled", !isEnabled());
}

export async function toggleLanguage(): Promise<void> {
  const language = vscode.window.activeTextEditor?.document.languageId;
  if (language === undefined) {
    void vscode.window.showInformationMessage("midfill: open a file first, to say which language is meant.");
    return;
  }
  const off = offLanguages();
  await change(LANGUAGES, off.includes(language) ? off.filter((each) => each !== language) : [...off, language]);
}

function isEnabled(): boolean {
  return vscode.workspace.getConfiguration(SECTION).get<boolean>("enabled", true);
}

function offLanguages(): readonly string[] {
  return vscode.workspace.getConfiguration(SECTION).get<string[]>(LANGUAGES, []);
}
