/** Which setting keeps suggestions away, and changing it. */

import * as vscode from "vscode";
import { change, SECTION } from "./settings.ts";

const ENABLED = "enabled_languages";
const DISABLED = "disabled_languages";

/** The setting that turns suggestions off in a document; undefined where none does. */
export function whyOff(document: vscode.TextDocument | undefined): string | undefined {
  if (!isEnabled()) {
    return "midfill.enabled is false";
  }
  if (document === undefined) {
    return undefined;
  }
  const setting = whyOffInLanguage(document.languageId);
  if (setting !== undefined) {
    return setting === ENABLED
      ? `midfill.${ENABLED} does not have ${document.languageId}`
      : `midfill.${DISABLED} has ${document.languageId}`;
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
  if (whyOffInLanguage(language) === ENABLED) {
    await change(ENABLED, [...languages(ENABLED), language]);
  } else {
    const off = languages(DISABLED);
    await change(DISABLED, off.includes(language) ? off.filter((each) => each !== language) : [...off, language]);
  }
}

function isEnabled(): boolean {
  return vscode.workspace.getConfiguration(SECTION).get<boolean>("enabled", true);
}

/** No enabled languages are all. */
function whyOffInLanguage(language: string): typeof ENABLED | typeof DISABLED | undefined {
  if (languages(DISABLED).includes(language)) {
    return DISABLED;
  }
  const enabled = languages(ENABLED);
  return enabled.length > 0 && !enabled.includes(language) ? ENABLED : undefined;
}

function languages(setting: typeof ENABLED | typeof DISABLED): readonly string[] {
  return vscode.workspace.getConfiguration(SECTION).get<string[]>(setting, []);
}
