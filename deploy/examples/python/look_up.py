"""Looks numbers up over gRPC: look_up.py NUMBER..."""

import os
import sys

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from contactd.v1 import contact_pb2 as pb, contact_pb2_grpc

# A phone rings for some seconds; after two of them a name is too late.
DEADLINE_SECONDS = 2


def shown(answer):
    """One contact with company, or the names of several to choose from, or why there is none."""
    contacts = answer.matched_contact_info
    if not contacts:
        return answer.return_message.message
    names = [
        contact.name + (" (unverified)" if contact.match_quality == pb.MATCH_QUALITY_UNVERIFIED else "")
        for contact in contacts
    ]
    if len(names) > 1:
        return f"{len(names)} contacts: {'; '.join(names)}"
    company = contacts[0].company
    return f"{names[0]}, {company}" if company else names[0]


def failed(error):
    """The reason, for programs, and the message for people."""
    info, message = error_details_pb2.ErrorInfo(), pb.ReturnMessage()
    status = rpc_status.from_call(error)
    for detail in status.details if status else []:
        detail.Unpack(info) or detail.Unpack(message)
    return f"failed: {info.reason or error.code().name}: {message.message or error.details()}"


def look_up(stub, number):
    request = pb.FindContactRequest(
        user=pb.User(id="agent-7", platform="example", region="US"),
        auth_header=os.environ.get("CONTACTD_AUTH_HEADER", ""),
        phone_number=number,
        create_option=False,
    )
    return stub.FindContact(request, timeout=DEADLINE_SECONDS)


def main(numbers):
    failures = 0
    address = os.environ.get("CONTACTD_SERVER", "http://127.0.0.1:50051").removeprefix("http://")
    with grpc.insecure_channel(address) as channel:
        stub = contact_pb2_grpc.ContactServiceStub(channel)
        for number in numbers:
            try:
                print(f"{number}: {shown(look_up(stub, number))}")
            except grpc.RpcError as error:
                failures += 1
                print(f"{number}: {failed(error)}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
