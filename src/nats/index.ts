export * as NatsBackplane from "./NatsBackplane.ts"
