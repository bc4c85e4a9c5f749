export * as NatsBackplane from "./NatsBackplane.ts"
export * as NatsHistory from "./NatsHistory.ts"
