export * as SocketContract from "./SocketContract.ts"
export * as TestNetwork from "./TestNetwork.ts"
export * as TestSocket from "./TestSocket.ts"
