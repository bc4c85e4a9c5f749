export * as TestNetwork from "./TestNetwork.ts"
export * as TestSocket from "./TestSocket.ts"
