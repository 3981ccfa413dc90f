/** What the status bar says in each state. */

import assert from "node:assert/strict";
import { test } from "node:test";
import type { Status } from "../src/protocol.ts";
import { render, type Facts } from "../src/rendering.ts";

function running(status: Status, off?: string): Facts {
  return { life: "running", status, ...(off !== undefined && { off }) };
}

const CASES: readonly [facts: Facts, text: string, headline: string, severity: string][] = [
  [{ life: "starting" }, "$(loading~spin) midfill", "the server is starting", "normal"],
  [{ life: "missing" }, "$(warning) midfill: not installed", "no server was found", "warning"],
  [{ life: "failed", problem: "it ended by itself" }, "$(error) midfill: failed", "the server failed: it ended by itself", "error"],
  [running({ state: "loading", progress: 0.4 }), "$(loading~spin) midfill: loading 40 %", "the model is loading", "normal"],
  [running({ state: "loading", progress: null }), "$(loading~spin) midfill: loading", "the model is loading", "normal"],
  [running({ state: "warming" }), "$(loading~spin) midfill: warming up", "the model is warming up", "normal"],
  [running({ state: "ready" }), "$(check) midfill", "ready", "normal"],
  [running({ state: "busy" }), "$(sync~spin) midfill", "busy", "normal"],
  [running({ state: "disabled" }), "$(circle-slash) midfill: off", "off: by setting", "normal"],
  [running({ state: "ready" }, "x is false"), "$(circle-slash) midfill: off", "off: x is false", "normal"],
  [running({ state: "engine_down" }), "$(error) midfill: engine down", "the engine is down", "error"],
];

for (const [facts, text, headline, severity] of CASES) {
  void test(`${facts.life} ${facts.status?.state ?? ""} ${facts.off ?? ""}`, () => {
    const rendered = render(facts);
    assert.deepEqual([rendered.text, rendered.tooltip[0], rendered.severity], [text, headline, severity]);
  });
}

void test("the tooltip names model, latency and server", () => {
  const last = { prompt: 100, reused: 98, prefilled: 2, decoded: 5, first_ms: 8.6, total_ms: 30.2, finish: "newline" };
  const status: Status = { state: "ready", model: "shipped", device: "cpu", dtype: "int8", attention: "sdpa", last };
  const found = { command: "/usr/bin/midfill", why: "PATH" };
  assert.deepEqual(render({ life: "running", status, discovery: { found, looked: [] } }).tooltip, [
    "ready",
    "model: shipped (cpu, int8, sdpa)",
    "last suggestion: 30 ms, first token 9 ms, 98 of 100 tokens reused",
    "server: /usr/bin/midfill, found by PATH",
  ]);
});
