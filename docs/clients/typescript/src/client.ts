// A client of stylewire: calls as promises and async iterators, with deadline and retries.

import * as grpc from "@grpc/grpc-js";
import { StylewireError } from "./errors.js";
import {
  DeepPartial,
  GenerateRequest,
  GenerateResponse,
  InterpolateRequest,
  InterpolateResponse,
  StyleGanServiceClient,
} from "./gen/stylewire/v1/stylegan_service.js";

const ATTEMPTS = 4;
const MESSAGE_BYTES = 64 * 2 ** 20; // a float32 picture of 1024 px has 12.6 MB, gRPC's own limit is 4 MB
const SERVICE_CONFIG = {
  loadBalancingConfig: [{ round_robin: {} }],
  methodConfig: [
    {
      // No streams: those are made again here, as long as they brought nothing.
      name: ["Generate", "Invert", "MixStyles"].map((method) => ({ service: "stylewire.v1.StyleGanService", method })),
      retryPolicy: {
        maxAttempts: ATTEMPTS,
        initialBackoff: "0.2s",
        maxBackoff: "2s",
        backoffMultiplier: 2,
        retryableStatusCodes: ["UNAVAILABLE"],
      },
    },
  ],
};

export class Client {
  private readonly stub: StyleGanServiceClient;

  // Credentials of TLS: grpc.credentials.createSsl(ca, key, certificate); a token is combined with them, see README.md.
  constructor(
    address: string,
    credentials: grpc.ChannelCredentials = grpc.credentials.createInsecure(),
    private readonly timeoutMs = 60_000,
  ) {
    this.stub = new StyleGanServiceClient(address, credentials, {
      "grpc.service_config": JSON.stringify(SERVICE_CONFIG),
      "grpc.max_receive_message_length": MESSAGE_BYTES,
      "grpc.max_send_message_length": MESSAGE_BYTES,
    });
  }

  close(): void {
    this.stub.close();
  }

  // One picture for each latent.
  async generate(request: DeepPartial<GenerateRequest>): Promise<GenerateResponse> {
    const deadline = Date.now() + this.timeoutMs;
    for (let attempt = 1; ; attempt++) {
      try {
        return await new Promise((resolve, reject) =>
          this.stub.generate(GenerateRequest.fromPartial(request), new grpc.Metadata(), { deadline }, (error, reply) =>
            error ? reject(error) : resolve(reply),
          ),
        );
      } catch (error) {
        await pause(error as grpc.ServiceError, attempt, deadline);
      }
    }
  }

  // The frames of a walk, in order; leaving the loop cancels the call on the server.
  async *interpolate(request: DeepPartial<InterpolateRequest>): AsyncGenerator<InterpolateResponse> {
    const deadline = Date.now() + this.timeoutMs;
    for (let attempt = 1, begun = false; ; attempt++) {
      const stream = this.stub.interpolate(InterpolateRequest.fromPartial(request), { deadline });
      try {
        for await (const frame of stream) {
          begun = true;
          yield frame as InterpolateResponse;
        }
        return;
      } catch (error) {
        await pause(error as grpc.ServiceError, begun ? ATTEMPTS : attempt, deadline, [grpc.status.UNAVAILABLE]);
      } finally {
        stream.cancel();
      }
    }
  }
}

// Wait as long as a full server says before the next attempt; throws the typed error if there is none.
async function pause(
  error: grpc.ServiceError,
  attempt: number,
  deadline: number,
  retryable: grpc.status[] = [],
): Promise<void> {
  const typed = new StylewireError(error);
  const usual = retryable.includes(error.code) ? 200 * 2 ** (attempt - 1) : undefined;
  const wait = error.code === grpc.status.RESOURCE_EXHAUSTED ? typed.retryAfterMs : usual;
  if (attempt >= ATTEMPTS || wait === undefined || Date.now() + wait > deadline) {
    throw typed;
  }
  await new Promise((resolve) => setTimeout(resolve, wait * (1 + Math.random() / 5)));
}
