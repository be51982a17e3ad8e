"""Looks numbers up over gRPC: look_up.py NUMBER..."""

import os
import sys
from pathlib import Path

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
    """The reason, and the message for people. What only the programmer can mend is in the message of the status."""
    info, message = error_details_pb2.ErrorInfo(), pb.ReturnMessage()
    status = rpc_status.from_call(error)
    for detail in status.details if status else []:
        detail.Unpack(info) or detail.Unpack(message)
    reason = info.reason or error.code().name
    is_for_programmers = reason == "INVALID_REQUEST" or reason.startswith("CALLER_")
    words = "" if is_for_programmers else message.message
    return f"failed: {reason}: {words or error.details()}"


def connect():
    """A channel to the daemon."""
    server = os.environ.get("CONTACTD_SERVER") or "http://127.0.0.1:50051"
    ca_file = os.environ.get("CONTACTD_CA_FILE")
    scheme, _, address = server.rpartition("://")
    if scheme == "http" or not (scheme or ca_file):
        return grpc.insecure_channel(address)
    authority = Path(ca_file).read_bytes() if ca_file else None
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(authority))


def authorization():
    """The token that the daemon's operator gave to this program, if there are tokens."""
    token_file = os.environ.get("CONTACTD_TOKEN_FILE")
    return [("authorization", f"Bearer {Path(token_file).read_text().strip()}")] if token_file else []


def look_up(stub, metadata, number):
    request = pb.FindContactRequest(
        user=pb.User(id="agent-7", platform="example", region="US"),
        auth_header=os.environ.get("CONTACTD_AUTH_HEADER", ""),
        phone_number=number,
        create_option=False,
    )
    return stub.FindContact(request, timeout=DEADLINE_SECONDS, metadata=metadata)


def main(numbers):
    failures, metadata = 0, authorization()
    with connect() as channel:
        stub = contact_pb2_grpc.ContactServiceStub(channel)
        for number in numbers:
            try:
                print(f"{number}: {shown(look_up(stub, metadata, number))}")
            except grpc.RpcError as error:
                failures += 1
                print(f"{number}: {failed(error)}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
