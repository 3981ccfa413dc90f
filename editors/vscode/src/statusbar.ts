/** The item in the status bar, for the editor that is looked at. */

import * as vscode from "vscode";
import { whyOff } from "./off.ts";
import { render } from "./rendering.ts";
import type { Server, View } from "./server.ts";

const COLORS = {
  normal: undefined,
  warning: new vscode.ThemeColor("statusBarItem.warningBackground"),
  error: new vscode.ThemeColor("statusBarItem.errorBackground"),
};

export class StatusBar implements vscode.Disposable {
  private readonly server: Server;
  private readonly item = vscode.window.createStatusBarItem("midfill.status", vscode.StatusBarAlignment.Right, 100);
  private readonly subscriptions: vscode.Disposable[];

  constructor(server: Server) {
    this.server = server;
    this.item.name = "midfill";
    this.item.command = "midfill.menu";
    this.item.show();
    this.subscriptions = [
      server.onDidChange((view) => this.update(view)),
      vscode.window.onDidChangeActiveTextEditor(() => this.update(server.view)),
      vscode.workspace.onDidChangeConfiguration(() => this.update(server.view)),
    ];
    this.update(server.view);
  }

  dispose(): void {
    vscode.Disposable.from(this.item, ...this.subscriptions).dispose();
  }

  private update(view: View): void {
    const off = whyOff(vscode.window.activeTextEditor?.document);
    const { text, tooltip, severity } = render({ ...view, ...(off !== undefined && { off }) });
    this.item.text = text;
    this.item.tooltip = tooltip.join("\n");
    this.item.backgroundColor = COLORS[severity];
    this.item.accessibilityInformation = { label: tooltip.join(", ") };
    void vscode.commands.executeCommand("setContext", "midfill.running", this.server.client !== undefined);
  }
}
