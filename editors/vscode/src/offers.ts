/** Between VS Code's inline suggestions and the server: what is passed on, and what becomes of it. */

import * as vscode from "vscode";
import type { LanguageClient, Middleware } from "vscode-languageclient/node";
import { whyOff } from "./off.ts";
import { Offer, type Item } from "./offer.ts";
import { didDismiss, didPartiallyAccept, didShow } from "./protocol.ts";

type Provide = NonNullable<Middleware["provideInlineCompletionItems"]>;

export class Offers implements vscode.Disposable {
  private readonly client: () => LanguageClient | undefined;
  private readonly answered: () => void;
  private readonly subscriptions: vscode.Disposable[];
  private offer: Offer | undefined;
  private isAccepting = false;
  private shownId: string | undefined;

  /** `client` gives the one that runs now, which changes with each restart; `answered` is told of each suggestion. */
  constructor(client: () => LanguageClient | undefined, answered: () => void) {
    this.client = client;
    this.answered = answered;
    this.subscriptions = [
      vscode.workspace.onDidChangeTextDocument((event) => this.edited(event)),
      vscode.window.onDidChangeTextEditorSelection(({ textEditor }) => this.moved(textEditor)),
      vscode.window.onDidChangeActiveTextEditor((editor) => this.moved(editor)),
    ];
  }

  dispose(): void {
    vscode.Disposable.from(...this.subscriptions).dispose();
  }

  readonly provide: Provide = async (document, position, context, token, next) => {
    const isInvoked = context.triggerKind === vscode.InlineCompletionTriggerKind.Invoke;
    if (!isInvoked && whyOff(document) !== undefined) {
      return [];
    }
    const { version } = document;
    const answer = await next(document, position, context, token);
    if (token.isCancellationRequested || document.version !== version) {
      return answer;
    }
    const items = Array.isArray(answer) ? answer : (answer?.items ?? []);
    const cursor = document.offsetAt(position);
    this.take(new Offer(document.uri.toString(), cursor, items.flatMap((item) => followed(item, document, cursor))));
    return answer;
  };

  /** Accepts the next word or line, as VS Code does, and tells the server. */
  async acceptPart(command: "acceptNextWord" | "acceptNextLine"): Promise<void> {
    this.isAccepting = true;
    try {
      await vscode.commands.executeCommand(`editor.action.inlineSuggest.${command}`);
    } finally {
      this.isAccepting = false;
    }
  }

  async dismiss(): Promise<void> {
    const id = this.offer?.id;
    this.take(undefined);
    await vscode.commands.executeCommand("editor.action.inlineSuggest.hide");
    if (id !== undefined) {
      await this.client()?.sendNotification(didDismiss, { id });
    }
  }

  private take(offer: Offer | undefined): void {
    this.offer = offer;
    this.showContext();
    const id = offer?.id;
    if (id !== undefined && id !== this.shownId) {
      this.shownId = id;
      this.answered();
      void this.client()?.sendNotification(didShow, { id });
    }
  }

  private edited({ document, contentChanges }: vscode.TextDocumentChangeEvent): void {
    if (contentChanges.length === 0 || this.offer?.document !== document.uri.toString()) {
      return; // Without changes it is only "dirty" or not.
    }
    const edits = contentChanges.map(({ rangeOffset, rangeLength, text }) => ({
      offset: rangeOffset,
      nRemoved: rangeLength,
      text,
    }));
    const partial = this.offer.edited(edits, this.isAccepting);
    this.showContext();
    if (partial !== undefined) {
      void this.client()?.sendNotification(didPartiallyAccept, partial);
    }
  }

  private moved(editor: vscode.TextEditor | undefined): void {
    const uri = editor?.document.uri.toString() ?? "";
    if (this.offer && !(editor && this.offer.isAt(uri, editor.document.offsetAt(editor.selection.active)))) {
      this.take(undefined);
    }
  }

  /** Keys are ours only while a suggestion of ours may be shown. */
  private showContext(): void {
    void vscode.commands.executeCommand("setContext", "midfill.offered", this.offer?.id !== undefined);
  }
}

/** Gives what is to be followed of an item; one without an id comes from a server that does not want to know. */
function followed(item: vscode.InlineCompletionItem, document: vscode.TextDocument, cursor: number): Item[] {
  const [argument] = (item.command?.arguments ?? []) as readonly unknown[];
  const id = typeof argument === "object" && argument !== null && "id" in argument ? argument.id : undefined;
  if (typeof id !== "string" || typeof item.insertText !== "string") {
    return [];
  }
  const start = item.range === undefined ? cursor : document.offsetAt(item.range.start);
  const before = document.getText(new vscode.Range(document.positionAt(start), document.positionAt(cursor)));
  return item.insertText.startsWith(before) ? [{ id, text: item.insertText, nBefore: before.length }] : [];
}
