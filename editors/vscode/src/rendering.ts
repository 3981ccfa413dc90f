/** What the status bar says. Free of VS Code, so that it is tested by itself. */

import type { Discovery } from "./discovery.ts";
import type { Status } from "./protocol.ts";

export interface Facts {
  readonly life: "starting" | "running" | "missing" | "failed" | "stopped";
  readonly discovery?: Discovery;
  readonly status?: Status;
  readonly problem?: string;
  /** Why nothing is suggested in the editor that is looked at, where a setting says so. */
  readonly off?: string;
}

export interface Rendered {
  readonly text: string;
  readonly tooltip: readonly string[];
  readonly severity: "normal" | "warning" | "error";
}

export function render(facts: Facts): Rendered {
  const { text, headline, severity } = headlineOf(facts);
  const { status, discovery } = facts;
  const engine = [status?.device, status?.dtype, status?.attention].filter((part) => part).join(", ");
  const last = status?.last;
  const tooltip = [
    headline,
    status?.detail,
    status?.model && `model: ${status.model}${engine && ` (${engine})`}`,
    last && `last suggestion: ${ms(last.total_ms)}, first token ${ms(last.first_ms)}, ${last.reused} of ${last.prompt} tokens reused`,
    discovery?.found && `server: ${discovery.found.command}, found by ${discovery.found.why}`,
    discovery?.problem,
  ];
  return { text, severity, tooltip: tooltip.filter((line): line is string => Boolean(line)) };
}

type Headline = { readonly text: string; readonly headline: string; readonly severity: Rendered["severity"] };

function headlineOf({ life, status, problem, off }: Facts): Headline {
  switch (life) {
    case "missing":
      return { text: "$(warning) midfill: not installed", headline: "no server was found", severity: "warning" };
    case "failed":
      return { text: "$(error) midfill: failed", headline: `the server failed: ${problem ?? "unknown"}`, severity: "error" };
    case "stopped":
      return { text: "$(circle-slash) midfill", headline: "stopped", severity: "normal" };
    case "starting":
      return { text: "$(loading~spin) midfill", headline: "the server is starting", severity: "normal" };
    case "running":
      return running(status, off);
  }
}

function running(status: Status | undefined, off: string | undefined): Headline {
  if (off !== undefined || status?.state === "disabled") {
    return { text: "$(circle-slash) midfill: off", headline: `off: ${off ?? "by setting"}`, severity: "normal" };
  }
  const percent = typeof status?.progress === "number" ? ` ${Math.round(status.progress * 100)} %` : "";
  switch (status?.state) {
    case "loading":
      return { text: `$(loading~spin) midfill: loading${percent}`, headline: "the model is loading", severity: "normal" };
    case "warming":
      return { text: `$(loading~spin) midfill: warming up${percent}`, headline: "the model is warming up", severity: "normal" };
    case "busy":
      return { text: "$(sync~spin) midfill", headline: "busy", severity: "normal" };
    case "engine_down":
      return { text: "$(error) midfill: engine down", headline: "the engine is down", severity: "error" };
    case "ready":
    case undefined:
      return { text: "$(check) midfill", headline: "ready", severity: "normal" };
  }
}

function ms(value: number | null): string {
  return value === null ? "–" : `${Math.round(value)} ms`;
}
