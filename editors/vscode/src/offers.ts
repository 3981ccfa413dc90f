/** Between VS Code's inline suggestions and the server: what is passed on, and what becomes of it. */

import * as vscode from "vscode";
import type { Middleware } from "vscode-languageclient/node";
import { whyOff } from "./off.ts";
import { Offer, type Item } from "./offer.ts";
import { didDismiss, didPartiallyAccept, didShow } from "./protocol.ts";
import type { Server, View } from "./server.ts";

type Provide = NonNullable<Middleware["provideInlineCompletionItems"]>;

/** Text that was typed, and that nobody has been asked about yet. */
interface Typed {
  readonly document: vscode.TextDocument;
  readonly version: number;
  readonly from: number;
  readonly to: number;
}

const ASKED_WITHIN_MS = 300; // of a key; VS Code itself waits 50

export class Offers implements vscode.Disposable {
  private readonly server: Server;
  private readonly subscriptions: vscode.Disposable[];
  private offer: Offer | undefined;
  private isAccepting = false;
  private shownId: string | undefined;
  private isReady = false;
  private typed: Typed | undefined;
  private unasked: NodeJS.Timeout | undefined;
  private readonly askers = new WeakSet<vscode.TextEditor>();
  private isAskingAnew = false;

  constructor(server: Server) {
    this.server = server;
    this.subscriptions = [
      server.onDidChange((view) => void this.changed(view)),
      vscode.workspace.onDidChangeTextDocument((event) => this.edited(event)),
      vscode.window.onDidChangeTextEditorSelection(({ textEditor }) => this.moved(textEditor)),
      vscode.window.onDidChangeActiveTextEditor((editor) => this.moved(editor)),
    ];
  }

  dispose(): void {
    clearTimeout(this.unasked);
    vscode.Disposable.from(...this.subscriptions).dispose();
  }

  readonly provide: Provide = async (document, position, given, token, next) => {
    const context = this.isAskingAnew ? { ...given, triggerKind: vscode.InlineCompletionTriggerKind.Automatic } : given;
    const isInvoked = context.triggerKind === vscode.InlineCompletionTriggerKind.Invoke;
    if (!isInvoked && whyOff(document) !== undefined) {
      return [];
    }
    const editor = vscode.window.activeTextEditor;
    if (this.isReady && editor?.document === document) {
      this.typed = undefined;
      this.askers.add(editor);
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
      await this.server.client?.sendNotification(didDismiss, { id });
    }
  }

  private take(offer: Offer | undefined): void {
    this.offer = offer;
    this.showContext();
    const id = offer?.id;
    if (id !== undefined && id !== this.shownId) {
      this.shownId = id;
      void this.server.refresh();
      void this.server.client?.sendNotification(didShow, { id });
    }
  }

  private changed({ life, status }: View): void {
    this.isReady = life === "running" && (status?.state === "ready" || status?.state === "busy");
    if (this.isReady) {
      void this.askAnew();
    }
  }

  /**
   * Notes what is typed, in case that it stays without an answer.
   *
   * A server that has no model yet has none. And VS Code makes what asks for suggestions only once a new window or
   * editor group has been idle: on a busy machine the first keys in it are typed before, and nobody is asked.
   */
  private note({ document, contentChanges, reason }: vscode.TextDocumentChangeEvent): void {
    const [change] = contentChanges;
    const editor = vscode.window.activeTextEditor;
    clearTimeout(this.unasked);
    this.typed = undefined;
    if (editor?.document !== document || change === undefined || change.text === "" || contentChanges.length > 1 || reason) {
      return;
    }
    const { rangeOffset: from, text } = change;
    this.typed = { document, version: document.version, from, to: from + text.length };
    if (this.isReady && !this.askers.has(editor)) {
      this.unasked = setTimeout(() => void this.askAnew(), ASKED_WITHIN_MS);
    }
  }

  /** Asks about what was typed last, as if that had just happened, if the cursor is still there. */
  private async askAnew(): Promise<void> {
    const { typed } = this;
    const editor = vscode.window.activeTextEditor;
    this.typed = undefined;
    if (typed === undefined || editor?.document !== typed.document || typed.document.version !== typed.version) {
      return;
    }
    const cursor = typed.document.offsetAt(editor.selection.active);
    if (typed.from <= cursor && cursor <= typed.to && whyOff(typed.document) === undefined) {
      this.isAskingAnew = true;
      try {
        await vscode.commands.executeCommand("editor.action.inlineSuggest.trigger");
      } finally {
        this.isAskingAnew = false;
      }
    }
  }

  private edited(event: vscode.TextDocumentChangeEvent): void {
    const { document, contentChanges } = event;
    if (contentChanges.length > 0) {
      this.note(event);
    }
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
      void this.server.client?.sendNotification(didPartiallyAccept, partial);
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
