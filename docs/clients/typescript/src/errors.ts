// What a call of stylewire fails with: the server's reason, every wrong field, and when to come back.

import { ServiceError, status } from "@grpc/grpc-js";
import { BadRequest, ErrorInfo, RetryInfo, Status } from "./gen/google/rpc/errors.js";

export class StylewireError extends Error {
  reason = "";
  requestId = "";
  violations: { field: string; description: string }[] = [];
  retryAfterMs?: number;

  constructor(readonly cause: ServiceError) {
    super(cause.details);
    for (const packed of cause.metadata.get("grpc-status-details-bin")) {
      for (const detail of Status.decode(packed as Buffer).details) {
        this.read(detail.typeUrl.split("/").pop() ?? "", detail.value);
      }
    }
  }

  get code(): string {
    return status[this.cause.code];
  }

  private read(type: string, value: Uint8Array): void {
    if (type === "google.rpc.ErrorInfo") {
      const info = ErrorInfo.decode(value);
      this.reason = info.reason;
      this.requestId = info.metadata["request_id"] ?? "";
    } else if (type === "google.rpc.BadRequest") {
      this.violations = BadRequest.decode(value).fieldViolations;
    } else if (type === "google.rpc.RetryInfo") {
      const delay = RetryInfo.decode(value).retryDelay;
      this.retryAfterMs = delay && delay.seconds * 1000 + delay.nanos / 1e6;
    }
  }
}
