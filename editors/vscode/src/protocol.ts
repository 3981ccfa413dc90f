/** What midfill's server speaks beyond LSP; `editors/README.md` is the contract. */

import { NotificationType, RequestType } from "vscode-languageclient/node";

export type EngineState = "loading" | "warming" | "ready" | "busy" | "disabled" | "engine_down";

export interface Counters {
  readonly prompt: number;
  readonly reused: number;
  readonly prefilled: number;
  readonly decoded: number;
  readonly first_ms: number | null;
  readonly total_ms: number | null;
  readonly finish: string;
}

export interface Status {
  readonly state: EngineState;
  readonly model?: string;
  readonly device?: string;
  readonly dtype?: string;
  readonly attention?: string;
  readonly progress?: number | null;
  readonly detail?: string;
  readonly last?: Counters | null;
}

export interface Why {
  readonly about: string;
}

interface Suggestion {
  readonly id: string;
}

export const statusRequest = new RequestType<object, Status, void>("midfill/status");
export const statsRequest = new RequestType<object, unknown, void>("midfill/stats");
export const whyRequest = new RequestType<{ textDocument: { uri: string } }, Why, void>("midfill/why");
export const restartEngineRequest = new RequestType<object, unknown, void>("midfill/restartEngine");

export const didChangeStatus = new NotificationType<Status>("midfill/didChangeStatus");
export const didShow = new NotificationType<Suggestion>("midfill/didShow");
export const didPartiallyAccept = new NotificationType<Suggestion & { readonly acceptedLength: number }>(
  "midfill/didPartiallyAccept",
);
export const didDismiss = new NotificationType<Suggestion>("midfill/didDismiss");
