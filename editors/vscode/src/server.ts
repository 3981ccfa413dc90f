/**
 * The server's life: found, started, stopped, restarted, one step after another.
 *
 * A restart never overlaps another: each waits in one queue, and a client that is still starting is waited for before
 * it is stopped, because vscode-languageclient refuses to stop it. A server that ends by itself is started again, at
 * once and then with pauses; one that keeps ending takes a person.
 */

import { homedir } from "node:os";
import { createInterface } from "node:readline";
import { setTimeout } from "node:timers/promises";
import type { Readable } from "node:stream";
import * as vscode from "vscode";
import {
  CloseAction,
  ErrorAction,
  LanguageClient,
  State,
  type LanguageClientOptions,
  type Middleware,
} from "vscode-languageclient/node";
import { discover, type Discovery } from "./discovery.ts";
import { didChangeStatus, statusRequest, type Status } from "./protocol.ts";
import { SECTION, type SettingsReader } from "./settings.ts";
import { surroundings } from "./surroundings.ts";

const PAUSES_MS = [0, 1000, 2000, 4000, 8000];
const FORGET_MS = 180_000;
const PATIENCE_MS = 5000; // with a server that does not start or stop

/** What the rest of the extension sees of the server. */
export interface View {
  readonly life: "starting" | "running" | "missing" | "failed" | "stopped";
  readonly discovery?: Discovery;
  readonly status?: Status;
  readonly problem?: string;
  /** Whether it is not started again until a person asks. */
  readonly isFinal?: boolean;
}

export class Server implements vscode.Disposable {
  private readonly settings: SettingsReader;
  private readonly log: vscode.LogOutputChannel;
  private readonly middleware: Middleware;
  private readonly memory: vscode.Memento;
  private readonly changed = new vscode.EventEmitter<View>();
  readonly onDidChange = this.changed.event;

  private queue: Promise<void> = Promise.resolve();
  private current: LanguageClient | undefined;
  private isWaiting = false;
  private isRefreshing = false;
  private failures: number[] = [];
  private pause: NodeJS.Timeout | undefined;
  private isDisposed = false;
  private lastView: View = { life: "stopped" };

  constructor(settings: SettingsReader, log: vscode.LogOutputChannel, middleware: Middleware, memory: vscode.Memento) {
    this.settings = settings;
    this.log = log;
    this.middleware = middleware;
    this.memory = memory;
  }

  get view(): View {
    return this.lastView;
  }

  /** The client, where it can be talked to. */
  get client(): LanguageClient | undefined {
    return this.current?.state === State.Running ? this.current : undefined;
  }

  /** Starts the server, or starts it anew with what is set now. */
  restart(): Promise<void> {
    this.failures = [];
    return this.enqueue();
  }

  /** Tells the server that its settings may have changed; it asks for them. */
  async settingsChanged(): Promise<void> {
    await this.client?.sendNotification("workspace/didChangeConfiguration", { settings: null });
  }

  /** Asks what the last answer cost: the server tells by itself only of what changes for longer. */
  async refresh(): Promise<void> {
    const { client } = this;
    if (client === undefined || this.isRefreshing) {
      return;
    }
    this.isRefreshing = true;
    try {
      const status = await client.sendRequest(statusRequest, {});
      if (client === this.client) {
        this.show({ ...this.lastView, life: "running", status });
      }
    } catch (error) {
      this.log.warn(`the server gave no status: ${String(error)}`);
    } finally {
      this.isRefreshing = false;
    }
  }

  async stop(): Promise<void> {
    this.isDisposed = true;
    clearTimeout(this.pause);
    this.queue = this.queue.then(() => this.stopCurrent());
    await this.queue;
  }

  dispose(): void {
    void this.stop();
    this.changed.dispose();
  }

  /** One restart that has not begun serves all who ask for one. */
  private enqueue(): Promise<void> {
    clearTimeout(this.pause);
    if (this.isWaiting) {
      return this.queue;
    }
    this.isWaiting = true;
    this.queue = this.queue.then(async () => {
      this.isWaiting = false;
      await this.stopCurrent();
      if (!this.isDisposed) {
        await this.start();
      }
    });
    return this.queue;
  }

  private async start(): Promise<void> {
    this.show({ life: "starting" });
    const discovery = discover(await surroundings(this.settings.path, this.memory));
    discovery.looked.forEach((line) => this.log.info(`looking for the server: ${line}`));
    const { found } = discovery;
    if (found === undefined) {
      this.show({ life: "missing", discovery });
      return;
    }
    this.show({ life: "starting", discovery });
    const args = this.settings.serveArguments();
    this.log.info(`starting ${[found.command, ...args].join(" ")} (found by ${found.why})`);
    // The home folder, for a program started in a workspace would read what lies there.
    const options = { cwd: homedir() };
    const client: LanguageClient = new LanguageClient(SECTION, { command: found.command, args, options }, this.clientOptions(
      () => client,
    ));
    this.current = client;
    client.onNotification(didChangeStatus, (status) => this.show({ life: "running", discovery, status }));
    try {
      await client.start();
    } catch (error) {
      this.failed(discovery, error instanceof Error ? error.message : String(error));
      return;
    }
    await this.refresh();
  }

  private async stopCurrent(): Promise<void> {
    const client = this.current;
    this.current = undefined;
    try {
      if (client?.state === State.Starting) {
        await Promise.race([client.start(), setTimeout(PATIENCE_MS)]);
      }
      await client?.dispose(PATIENCE_MS);
    } catch (error) {
      this.log.warn(`while stopping the server: ${String(error)}`);
      client?.serverProcess?.kill();
    }
  }

  private clientOptions(self: () => LanguageClient): LanguageClientOptions {
    return {
      // Not every scheme: a diff's left side or an output panel is not where a person writes.
      documentSelector: ["file", "untitled", "vscode-vfs", "vscode-notebook-cell"].map((scheme) => ({ scheme })),
      outputChannel: this.log,
      middleware: {
        ...this.middleware,
        workspace: {
          configuration: async (params, token, next) => {
            const values = await next(params, token);
            const resource = (uri: string | undefined): vscode.Uri | undefined => uri ? vscode.Uri.parse(uri) : undefined;
            return params.items.map((item, idx): unknown =>
              item.section === SECTION
                ? this.settings.shared(resource(item.scopeUri))
                : Array.isArray(values) ? values[idx] : null);
          },
        },
      },
      stdioOptions: {
        stdout: (input) => copyLog(input, this.log),
        stderr: (input) => copyLog(input, this.log),
      },
      errorHandler: {
        error: () => ({ action: ErrorAction.Continue, handled: true }),
        closed: () => {
          // One that is still starting fails in `start`; one that was replaced is not missed.
          if (self() === this.current && self().state === State.Running) {
            this.failed(this.lastView.discovery, "it ended by itself");
          }
          return { action: CloseAction.DoNotRestart, handled: true };
        },
      },
      initializationFailedHandler: () => false,
    };
  }

  private failed(discovery: Discovery | undefined, reason: string): void {
    this.log.error(`the server failed: ${reason}`);
    const now = Date.now();
    const recent = this.failures.filter((time) => now - time < FORGET_MS);
    const pause = PAUSES_MS[recent.length];
    this.failures = [...recent, now];
    this.show({ life: "failed", problem: reason, isFinal: pause === undefined, ...(discovery && { discovery }) });
    if (pause !== undefined && !this.isDisposed) {
      this.pause = global.setTimeout(() => void this.enqueue(), pause);
    }
  }

  private show(view: View): void {
    this.lastView = view;
    if (!this.isDisposed) {
      this.changed.fire(view);
    }
  }
}

/** Hands the server's log lines on at their own level; VS Code writes the time itself. */
function copyLog(input: Readable, log: vscode.LogOutputChannel): void {
  createInterface({ input }).on("line", (line) => {
    const [, level, message] = /^\S+ \S+ (DEBUG|INFO|WARNING|ERROR|CRITICAL) (.*)$/.exec(line) ?? [];
    switch (level) {
      case "DEBUG": return log.debug(message ?? "");
      case "INFO": return log.info(message ?? "");
      case "WARNING": return log.warn(message ?? "");
      default: return log.error(message ?? line);
    }
  });
}
